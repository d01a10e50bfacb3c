/**
 * What "equal but for hidden constants" means, written down without regard to how shape.ts does it:
 * two trees of libpg_query may differ in positions, and in values of constants of one class that do
 * not stand where they carry meaning (docs/guides/policies.md, `constants: hidden`).
 */

const positions = new Set([
  'location',
  'stmt_location',
  'stmt_len',
  'list_start',
  'list_end',
  'rexpr_list_start',
  'rexpr_list_end',
  'name_location',
])
/** Fields below which every constant must be equal. */
const meaningful = new Set([
  'sortClause',
  'groupClause',
  'distinctClause',
  'limitOffset',
  'limitCount',
  'typmods',
  'A_Indirection',
  'RangeTableSample',
  'RangeFunction',
  'windowClause',
  'ColumnRef',
  'TypeName',
  'returningList',
  'returningClause',
  'CoalesceExpr',
  'MinMaxExpr',
  'SQLValueFunction',
  'JsonFuncExpr',
])
const positionalClauses = new Set([
  'targetList',
  'returningList',
  'returningClause',
  'whereClause',
  'havingClause',
  'quals',
  'BoolExpr',
  'sortClause',
  'groupClause',
  'distinctClause',
  'limitOffset',
  'limitCount',
])
const pathOperators = new Set([
  '->',
  '->>',
  '#>',
  '#>>',
  '#-',
  '@?',
  '@@',
  '?',
  '?|',
  '?&',
  '~~',
  '~~*',
  '~',
  '!~',
  '/',
  '%',
  '*',
  '||',
])

type Node = Readonly<Record<string, unknown>>

/** Null where they are equal in this sense, else where and why not. */
export function difference(a: unknown, b: unknown): string | null {
  return compare(a, b, false, false, '')
}

function compare(
  a: unknown,
  b: unknown,
  visible: boolean,
  positional: boolean,
  path: string,
): string | null {
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return `${path}: lengths`
    for (let i = 0; i < a.length; i++) {
      const found = compare(a[i], b[i], visible, positional, `${path}[${i}]`)
      if (found !== null) return found
    }
    return null
  }
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) {
    return a === b ? null : `${path}: ${String(a)} and ${String(b)}`
  }
  return compareNodes(a as Node, b as Node, visible, positional, path)
}

function compareNodes(
  a: Node,
  b: Node,
  visible: boolean,
  positional: boolean,
  path: string,
): string | null {
  const names = new Set([...Object.keys(a), ...Object.keys(b)])
  for (const name of names) {
    if (positions.has(name)) continue
    if (!(name in a) || !(name in b)) return `${path}.${name}: only in one`
    // A position is one of the query whose clause it is, not of a sub-select inside the clause.
    const below =
      (visible && !(name === 'subselect' && positional)) ||
      meaningful.has(name) ||
      isMeaningfulIn(a, name)
    const positionalBelow = below && (visible ? positional : positionalClauses.has(name))
    const found =
      name === 'A_Const'
        ? compareConstants(a[name] as Node, b[name] as Node, below, `${path}.${name}`)
        : compare(a[name], b[name], below, positionalBelow, `${path}.${name}`)
    if (found !== null) return found
  }
  return null
}

function isMeaningfulIn(node: Node, name: string): boolean {
  const value = node[name]
  switch (name) {
    case 'whereClause':
    case 'havingClause':
    case 'quals':
      return isConstantCondition(value)
    case 'BoolExpr': {
      const list = (value as Node)['args']
      return Array.isArray(list) && list.every(isConstantCondition)
    }
    case 'targetList':
      return 'limitOption' in node && (value as readonly Node[]).some(isConstantOutput)
    case 'rexpr':
      return isConstant(value) && pathOperators.has(operatorName(node))
    case 'FuncCall':
      return !isOperatorLike(value as Node)
    case 'TypeCast':
      return JSON.stringify((value as Node)['typeName']).includes('"reg')
    default:
      return false
  }
}

/** A constant that is itself a condition, or two of them compared: a boolean in disguise. */
function isConstantCondition(node: unknown): boolean {
  if (isConstant(node)) return true
  const expression =
    typeof node === 'object' && node !== null ? (node as Node)['A_Expr'] : undefined
  if (expression === undefined) return false
  const { lexpr, rexpr } = expression as Node
  if (!isConstant(lexpr)) return false
  if (isConstant(rexpr)) return true
  const items = (rexpr as Node | undefined)?.['List'] as Node | undefined
  return Array.isArray(items?.['items']) && items['items'].every(isConstant)
}

function isConstantOutput(item: Node): boolean {
  return isConstant((item['ResTarget'] as Node)['val'])
}

/** AT TIME ZONE, OVERLAPS and the like are calls only in the tree; no name is an argument of them. */
function isOperatorLike(call: Node): boolean {
  const names = JSON.stringify(call['funcname'])
  return /"pg_catalog".*"(timezone|overlaps|is_normalized)"/.test(names)
}

function operatorName(expression: Node): string {
  const names = expression['name']
  if (!Array.isArray(names)) return ''
  const last = names.at(-1) as Node
  const text = (last['String'] as Node | undefined)?.['sval']
  return typeof text === 'string' ? text : ''
}

function isConstant(node: unknown): boolean {
  return typeof node === 'object' && node !== null && 'A_Const' in node
}

function compareConstants(a: Node, b: Node, visible: boolean, path: string): string | null {
  const left = classOf(a)
  const right = classOf(b)
  if (left.class !== right.class) return `${path}: ${left.class} and ${right.class}`
  if (left.value === right.value) return null
  if (visible) return `${path}: ${left.value} and ${right.value} are visible`
  return left.class === 'fixed' ? `${path}: ${left.value} and ${right.value}` : null
}

/** make_const (parse_node.c): which type the constant gets. */
function classOf(constant: Node): { readonly class: string; readonly value: string } {
  if ('ival' in constant) return { class: 'int4', value: JSON.stringify(constant['ival']) }
  if ('sval' in constant) return { class: 'string', value: JSON.stringify(constant['sval']) }
  const text = (constant['fval'] as Node | undefined)?.['fval']
  if (typeof text === 'string') return { class: numberClass(text), value: text }
  const { location: _, ...rest } = constant
  return { class: 'fixed', value: JSON.stringify(rest) }
}

function numberClass(text: string): string {
  if (!/^-?[0-9]+$/.test(text)) return 'numeric'
  const value = BigInt(text)
  if (value === BigInt.asIntN(32, value)) return 'int4'
  return value === BigInt.asIntN(64, value) ? 'int8' : 'numeric'
}
