/**
 * Which function or operator a call means: PostgreSQL's own candidate selection
 * (func_get_detail and func_select_candidate in src/backend/parser/parse_func.c, oper in
 * parse_oper.c; https://www.postgresql.org/docs/18/typeconv-func.html).
 *
 * Invariant: where a type is not known, every candidate that could be meant is returned, and the
 * caller takes the worst of them.
 */
import type { TypeNames } from './analysis-types.ts'
import { typeOids } from './lineage.ts'
import type { Oid } from './snapshot.ts'

export interface Signature {
  readonly argumentTypes: readonly Oid[]
  readonly variadic?: boolean
  readonly defaultCount?: number
}

interface Fitted<T> {
  readonly candidate: T
  /** One type per actual argument. */
  readonly wanted: readonly Oid[]
}

/** Candidates of the right arity, each with one wanted type per argument; no variadic over another. */
function fit<T extends Signature>(
  candidates: readonly T[],
  count: number,
  explicitVariadic: boolean,
  types: TypeNames,
): Fitted<T>[] {
  const fitted: Fitted<T>[] = []
  for (const candidate of candidates) {
    const formal = candidate.argumentTypes
    const required = formal.length - (candidate.defaultCount ?? 0)
    if (count <= formal.length && count >= required && (!candidate.variadic || explicitVariadic)) {
      fitted.push({ candidate, wanted: count === formal.length ? formal : formal.slice(0, count) })
      continue
    }
    if (candidate.variadic !== true || explicitVariadic || count < required - 1) continue
    const last = formal.at(-1) ?? 0
    const element = types.isPolymorphic(last) ? 0 : types.elementOf(last)
    const fixed = formal.slice(0, -1)
    if (count < fixed.length) {
      fitted.push({ candidate, wanted: formal.slice(0, count) })
      continue
    }
    const rest = new Array<Oid>(count - fixed.length).fill(element)
    fitted.push({ candidate, wanted: [...fixed, ...rest] })
  }
  return fitted
}

/** The candidates a call may mean, one where PostgreSQL's rules decide and all types are known. */
export function selectCandidates<T extends Signature>(
  all: readonly T[],
  actual: readonly Oid[],
  explicitVariadic: boolean,
  types: TypeNames,
): readonly T[] {
  const fitted = fit(all, actual.length, explicitVariadic, types)
  if (fitted.length <= 1) return fitted.map((one) => one.candidate)
  const exact = fitted.filter((one) => one.wanted.every((type, index) => type === actual[index]))
  if (exact.length > 0 && !actual.includes(0)) return exact.map((one) => one.candidate)
  const possible = fitted.filter((one) => fits(one.wanted, actual, types))
  if (possible.length <= 1 || actual.includes(0)) return possible.map((one) => one.candidate)
  return narrow(possible, actual, types).map((one) => one.candidate)
}

/** The same for operators, whose exact match takes an untyped literal for the other side's type. */
export function selectOperators<T extends Signature>(
  all: readonly T[],
  actual: readonly Oid[],
  types: TypeNames,
): readonly T[] {
  const [left, right] = actual
  if (left !== undefined && right !== undefined && left !== right) {
    const assumed = left === typeOids.unknown ? right : right === typeOids.unknown ? left : null
    if (assumed !== null && assumed !== 0) {
      for (const type of [assumed, types.baseOf(assumed)]) {
        const exact = all.filter((one) => one.argumentTypes.every((wanted) => wanted === type))
        if (exact.length > 0) return exact
      }
    }
  }
  return selectCandidates(all, actual, false, types)
}

function fits(wanted: readonly Oid[], actual: readonly Oid[], types: TypeNames): boolean {
  return wanted.every((type, index) => types.implicitlyFits(actual[index] ?? 0, type))
}

/** func_select_candidate, with as many left as its rules cannot tell apart. */
function narrow<T>(
  possible: readonly Fitted<T>[],
  actual: readonly Oid[],
  types: TypeNames,
): readonly Fitted<T>[] {
  const bases = actual.map((type) => types.baseOf(type))
  let left = best(possible, (one) =>
    count(bases, (type, index) => type !== typeOids.unknown && one.wanted[index] === type),
  )
  if (left.length === 1) return left
  left = best(left, (one) =>
    count(bases, (type, index) => {
      if (type === typeOids.unknown) return false
      const wanted = one.wanted[index] ?? 0
      if (wanted === type) return true
      const info = types.info(wanted)
      return info !== null && info.preferred && info.category === types.info(type)?.category
    }),
  )
  if (left.length === 1 || !bases.includes(typeOids.unknown)) return left
  const resolved = byCategory(left, bases, types)
  if (resolved.length === 1) return resolved
  const known = new Set(bases.filter((type) => type !== typeOids.unknown))
  if (known.size === 1) {
    const [type = 0] = known
    const assumed = bases.map(() => type)
    const fitting = resolved.filter((one) => fits(one.wanted, assumed, types))
    if (fitting.length === 1) return fitting
  }
  return resolved
}

function best<T>(all: readonly T[], score: (one: T) => number): readonly T[] {
  let highest = 0
  let found: T[] = []
  for (const one of all) {
    const value = score(one)
    if (value > highest) {
      highest = value
      found = []
    }
    if (value === highest) found.push(one)
  }
  return found
}

function count(bases: readonly Oid[], test: (type: Oid, index: number) => boolean): number {
  let matches = 0
  bases.forEach((type, index) => {
    if (test(type, index)) matches += 1
  })
  return matches
}

/** Untyped literals take the string category where one accepts it, else a category all share. */
function byCategory<T>(
  all: readonly Fitted<T>[],
  bases: readonly Oid[],
  types: TypeNames,
): readonly Fitted<T>[] {
  let left = all
  for (const [index, type] of bases.entries()) {
    if (type !== typeOids.unknown) continue
    const categories = new Set(all.map((one) => types.info(one.wanted[index] ?? 0)?.category ?? ''))
    const category = categories.has('S') ? 'S' : categories.size === 1 ? [...categories][0] : null
    if (category === null || category === undefined) return all
    const inCategory = left.filter(
      (one) => types.info(one.wanted[index] ?? 0)?.category === category,
    )
    const preferred = inCategory.filter((one) => types.info(one.wanted[index] ?? 0)?.preferred)
    left = preferred.length > 0 ? preferred : inCategory
  }
  return left.length > 0 ? left : all
}
