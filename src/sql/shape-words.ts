/**
 * The words that decide what a constant means, for shape.ts. All of them are reserved in PostgreSQL's
 * grammar, except SET, VALUES and BETWEEN, for which shape.ts looks at what stands beside them.
 */

export type WordCode = number

/** Any other word: a name, as far as shapes go. */
export const nameWord = 0
export const queryWord = 1
export const valuesWord = 2
/** WHERE, HAVING: ordinary constants follow. */
export const conditionWord = 3
export const onWord = 4
export const setWord = 5
/** A clause where constants carry meaning: ORDER BY 1, LIMIT 10. */
export const otherClauseWord = 6
export const andWord = 7
/** Behind these a bracket only groups. */
export const groupingWord = 8
export const listWord = 9
export const arrayWord = 10
export const betweenWord = 11
export const caseWord = 12
export const constantWord = 13
export const asWord = 14
export const distinctWord = 15
/** Neither a name nor a constant, so that no comparison can have it on its left. */
export const keyword = 16
export const regWord = 17
export const fromWord = 18
export const notWord = 19

const codes: Readonly<Record<string, WordCode>> = {
  select: queryWord,
  with: queryWord,
  values: valuesWord,
  where: conditionWord,
  having: conditionWord,
  on: onWord,
  set: setWord,
  from: fromWord,
  group: otherClauseWord,
  order: otherClauseWord,
  limit: otherClauseWord,
  offset: otherClauseWord,
  fetch: otherClauseWord,
  for: otherClauseWord,
  union: otherClauseWord,
  except: otherClauseWord,
  intersect: otherClauseWord,
  window: otherClauseWord,
  returning: otherClauseWord,
  into: otherClauseWord,
  and: andWord,
  or: groupingWord,
  not: notWord,
  when: groupingWord,
  in: listWord,
  any: listWord,
  all: listWord,
  some: listWord,
  array: arrayWord,
  between: betweenWord,
  case: caseWord,
  true: constantWord,
  false: constantWord,
  null: constantWord,
  default: constantWord,
  as: asWord,
  distinct: distinctWord,
  then: keyword,
  else: keyword,
  using: keyword,
  like: keyword,
  ilike: keyword,
  similar: keyword,
  escape: keyword,
  is: keyword,
  collate: keyword,
  interval: keyword,
  regclass: regWord,
  regcollation: regWord,
  regconfig: regWord,
  regdatabase: regWord,
  regdictionary: regWord,
  regnamespace: regWord,
  regoper: regWord,
  regoperator: regWord,
  regproc: regWord,
  regprocedure: regWord,
  regrole: regWord,
  regtype: regWord,
}

interface Entry {
  readonly bytes: Uint8Array
  readonly code: WordCode
}

const longest = Math.max(...Object.keys(codes).map((name) => name.length))
const entries = new Map<number, Entry[]>()
for (const [name, code] of Object.entries(codes)) {
  const bytes = Buffer.from(name)
  const key = keyOf(bytes, 0, bytes.length)
  entries.set(key, [...(entries.get(key) ?? []), { bytes, code }])
}

/** Length, first and last letter, folded. */
function keyOf(text: Uint8Array, start: number, end: number): number {
  const first = (text[start] as number) | 0x20
  const last = (text[end - 1] as number) | 0x20
  return ((end - start) << 16) | (first << 8) | last
}

/** The code of the word text[start, end), whatever its case. ASCII folding, as scan.l does for keywords. */
export function wordCode(text: Uint8Array, start: number, end: number): WordCode {
  if (end - start > longest) return nameWord
  const candidates = entries.get(keyOf(text, start, end))
  if (candidates === undefined) return nameWord
  for (const { bytes, code } of candidates) {
    let same = 0
    while (same < bytes.length && ((text[start + same] as number) | 0x20) === bytes[same]) same += 1
    if (same === bytes.length) return code
  }
  return nameWord
}

const statementWords = new Set([
  'select',
  'insert',
  'update',
  'delete',
  'merge',
  'with',
  'values',
  'table',
])

/** Whether a statement that begins with this word can have a shape. */
export function hasShape(word: string): boolean {
  return statementWords.has(word.toLowerCase())
}
