/**
 * Queries over the corpus by grammar (fast-check, so a seed gives the same ones). `plain` touches no
 * sensitive column and calls functions of the total and partial classes only; `masked` is the same
 * with sensitive columns added as outputs: themselves, or inside functions that cannot fail.
 */
import fc from 'fast-check'

type Kind = 'int' | 'text' | 'numeric'

interface Column {
  readonly name: string
  readonly kind: Kind
}

interface Table {
  readonly name: string
  readonly columns: readonly Column[]
  readonly sensitive: readonly Column[]
}

const int = (name: string): Column => ({ name, kind: 'int' })
const text = (name: string): Column => ({ name, kind: 'text' })

const tables: readonly Table[] = [
  {
    name: 'users',
    columns: [int('id'), text('name'), int('age'), int('address_id')],
    sensitive: [text('email'), text('ssn'), int('salary'), text('ssn_tail')],
  },
  {
    name: 'orders',
    columns: [
      int('id'),
      int('user_id'),
      { name: 'total', kind: 'numeric' },
      text('status'),
      text('note'),
    ],
    sensitive: [],
  },
  { name: 'addresses', columns: [int('id'), text('city'), text('zip')], sensitive: [] },
  { name: 'cards', columns: [int('id'), int('user_id'), text('brand')], sensitive: [text('pan')] },
  { name: 'events', columns: [int('id'), text('kind')], sensitive: [text('payload')] },
  { name: 'hr.users', columns: [int('id'), text('name'), text('grade')], sensitive: [] },
  {
    name: 'user_cards',
    columns: [int('id'), text('name'), text('brand')],
    sensitive: [text('number')],
  },
]

/** An expression over the columns in reach, as SQL. */
interface Scope {
  readonly columns: readonly Column[]
}

const small = fc.integer({ min: 1, max: 60 })
const word = fc.constantFrom('paid', 'new', 'visa', 'user', 'city', 'a', '')

function columnOf(scope: Scope, kind: Kind): fc.Arbitrary<string> {
  const names = scope.columns.filter((column) => column.kind === kind).map(({ name }) => name)
  if (names.length > 0) return fc.constantFrom(...names)
  return kind === 'text' ? word.map((each) => `'${each}'`) : small.map(String)
}

function intOf(scope: Scope, depth: number): fc.Arbitrary<string> {
  const leaf = fc.oneof({ weight: 3, arbitrary: columnOf(scope, 'int') }, small.map(String))
  if (depth === 0) return leaf
  const sub = intOf(scope, depth - 1)
  return fc.oneof(
    { weight: 3, arbitrary: leaf },
    fc
      .tuple(sub, fc.constantFrom('+', '-', '*'), small)
      .map(([left, operator, right]) => `(${left} ${operator} ${right})`),
    textOf(scope, depth - 1).map((inner) => `length(${inner})`),
    fc.tuple(sub, sub).map(([left, right]) => `coalesce(${left}, ${right})`),
    fc.tuple(sub, sub).map(([left, right]) => `greatest(${left}, ${right})`),
    fc
      .tuple(sub, small)
      .map(([left, right]) => `${left} % ${right}`)
      .map((sql) => `(${sql})`),
    sub.map((inner) => `abs(${inner})`),
  )
}

function textOf(scope: Scope, depth: number): fc.Arbitrary<string> {
  const leaf = fc.oneof(
    { weight: 3, arbitrary: columnOf(scope, 'text') },
    word.map((each) => `'${each}'`),
  )
  if (depth === 0) return leaf
  const sub = textOf(scope, depth - 1)
  return fc.oneof(
    { weight: 3, arbitrary: leaf },
    sub.map((inner) => `upper(${inner})`),
    sub.map((inner) => `trim(${inner})`),
    fc.tuple(sub, sub).map(([left, right]) => `(${left} || ${right})`),
    fc.tuple(sub, small).map(([inner, count]) => `left(${inner}, ${count})`),
    fc.tuple(sub, small).map(([inner, from]) => `substr(${inner}, ${from})`),
    fc.tuple(sub, sub, sub).map((parts) => `replace(${parts.join(', ')})`),
    intOf(scope, depth - 1).map((inner) => `(${inner})::text`),
    fc
      .tuple(conditionOf(scope, depth - 1), sub, sub)
      .map(([when, yes, no]) => `CASE WHEN ${when} THEN ${yes} ELSE ${no} END`),
  )
}

function conditionOf(scope: Scope, depth: number): fc.Arbitrary<string> {
  const leaf = fc.oneof(
    fc
      .tuple(
        intOf(scope, depth === 0 ? 0 : depth - 1),
        fc.constantFrom('=', '<', '>=', '<>'),
        small,
      )
      .map((parts) => parts.join(' ')),
    fc.tuple(columnOf(scope, 'text'), word).map(([name, value]) => `${name} LIKE '%${value}%'`),
    fc.tuple(columnOf(scope, 'text'), word).map(([name, value]) => `${name} = '${value}'`),
    columnOf(scope, 'int').map((name) => `${name} IS NOT NULL`),
    fc.tuple(columnOf(scope, 'int'), small, small).map(([name, a, b]) => `${name} IN (${a}, ${b})`),
    fc
      .tuple(columnOf(scope, 'int'), small)
      .map(([name, limit]) => `${name} BETWEEN 1 AND ${limit}`),
  )
  if (depth === 0) return leaf
  const sub = conditionOf(scope, depth - 1)
  return fc.oneof(
    { weight: 3, arbitrary: leaf },
    fc.tuple(sub, fc.constantFrom('AND', 'OR'), sub).map((parts) => `(${parts.join(' ')})`),
    sub.map((inner) => `NOT (${inner})`),
    columnOf(scope, 'int').map(
      (name) => `EXISTS (SELECT 1 FROM orders x WHERE x.user_id = ${name} AND x.total > 10)`,
    ),
    columnOf(scope, 'int').map((name) => `${name} IN (SELECT x.user_id FROM orders x)`),
  )
}

interface Source {
  readonly from: string
  readonly scope: Scope
  readonly sensitive: readonly Column[]
}

const source: fc.Arbitrary<Source> = fc
  .tuple(
    fc.array(fc.constantFrom(...tables), { minLength: 1, maxLength: 3 }),
    fc.constantFrom('JOIN', 'LEFT JOIN'),
    fc.boolean(),
  )
  .map(([picked, join, nested]) => {
    const scoped = (columns: readonly Column[], alias: string): Column[] =>
      columns.map(({ name, kind }) => ({ name: `${alias}.${name}`, kind }))
    const parts = picked.map((table, index) => {
      const inner = nested && index === 0 ? `(SELECT * FROM ${table.name})` : table.name
      const alias = `t${index}`
      return index === 0 ? `${inner} ${alias}` : `${join} ${inner} ${alias} ON ${alias}.id = t0.id`
    })
    return {
      from: parts.join(' '),
      scope: { columns: picked.flatMap((table, index) => scoped(table.columns, `t${index}`)) },
      sensitive: picked.flatMap((table, index) => scoped(table.sensitive, `t${index}`)),
    }
  })

function outputOf(scope: Scope): fc.Arbitrary<string> {
  return fc.oneof(intOf(scope, 2), textOf(scope, 2), columnOf(scope, 'numeric'))
}

/** SELECT … FROM … WHERE … ORDER BY … LIMIT, with `extra` outputs. */
function rowsQuery(
  { from, scope }: Source,
  extra: fc.Arbitrary<readonly string[]>,
): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.array(outputOf(scope), { minLength: 1, maxLength: 4 }),
      extra,
      fc.option(conditionOf(scope, 2)),
      fc.option(columnOf(scope, 'int')),
      fc.option(small),
    )
    .map(([outputs, more, where, order, limit]) => {
      let sql = `SELECT ${[...outputs, ...more].join(', ')} FROM ${from}`
      if (where !== null) sql += ` WHERE ${where}`
      if (order !== null) sql += ` ORDER BY ${order}`
      if (limit !== null) sql += ` LIMIT ${limit}`
      return sql
    })
}

function groupQuery({ from, scope }: Source): fc.Arbitrary<string> {
  const aggregate = fc.oneof(
    fc.constant('count(*)'),
    columnOf(scope, 'int').map((name) => `sum(${name})`),
    columnOf(scope, 'int').map((name) => `max(${name})`),
    columnOf(scope, 'text').map((name) => `min(${name})`),
    columnOf(scope, 'numeric').map((name) => `avg(${name})`),
    columnOf(scope, 'text').map((name) => `string_agg(${name}, ',')`),
  )
  return fc
    .tuple(columnOf(scope, 'text'), aggregate, fc.option(conditionOf(scope, 1)), fc.boolean())
    .map(([by, what, where, having]) => {
      const filter = where === null ? '' : ` WHERE ${where}`
      const group = by.startsWith("'") ? '' : ` GROUP BY ${by}`
      const limit = having && group !== '' ? ' HAVING count(*) > 1' : ''
      return `SELECT ${group === '' ? '' : `${by}, `}${what} FROM ${from}${filter}${group}${limit}`
    })
}

function wrapped(inner: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.tuple(inner, fc.constantFrom('', '', 'cte', 'sub', 'window')).map(([sql, how]) => {
    switch (how) {
      case 'cte':
        return `WITH q AS (${sql}) SELECT * FROM q`
      case 'sub':
        return `SELECT s.* FROM (${sql}) s`
      case 'window':
        return `SELECT count(*) OVER (), s.* FROM (${sql}) s`
      default:
        return sql
    }
  })
}

/** No sensitive column anywhere. */
export const plainQuery: fc.Arbitrary<string> = wrapped(
  source.chain((each) =>
    fc.oneof({ weight: 3, arbitrary: rowsQuery(each, fc.constant([])) }, groupQuery(each)),
  ),
)

/** Sensitive columns as outputs and as nothing else. */
export const maskedQuery: fc.Arbitrary<string> = wrapped(
  source
    .filter((each) => each.sensitive.length > 0)
    .chain((each) =>
      rowsQuery(each, fc.array(sensitiveOutput(each), { minLength: 1, maxLength: 2 })),
    ),
)

/** Sensitive columns anywhere: conditions, groups, orders, sets, windows, limits, functions. */
export const attackQuery: fc.Arbitrary<string> = source
  .filter((each) => each.sensitive.length > 0)
  .chain((each) => {
    // Sensitive columns thrice, so that most expressions hold one.
    const { sensitive } = each
    const columns = [...each.scope.columns, ...sensitive, ...sensitive, ...sensitive]
    const open: Source = { ...each, scope: { columns } }
    const secret = fc.constantFrom(...sensitive.map(({ name }) => name))
    const query = fc.oneof(rowsQuery(open, fc.constant([])), groupQuery(open))
    return fc.oneof(
      { weight: 4, arbitrary: wrapped(query) },
      fc.tuple(wrapped(query), attackShape(open, secret)).map(([, shape]) => shape),
      attackShape(open, secret),
    )
  })

function attackShape({ from, scope }: Source, secret: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const when = conditionOf(scope, 1)
  return fc.oneof(
    fc.tuple(secret, when).map(([x, c]) => `SELECT DISTINCT ${x} FROM ${from} WHERE ${c}`),
    secret.map((x) => `SELECT count(DISTINCT ${x}) FROM ${from}`),
    secret.map((x) => `SELECT count(*) FROM ${from} GROUP BY ${x} ORDER BY 1`),
    secret.map((x) => `SELECT t0.id, rank() OVER (ORDER BY ${x}) FROM ${from}`),
    secret.map(
      (x) => `SELECT t0.id, count(*) OVER (PARTITION BY left(${x}::text, 8)) FROM ${from}`,
    ),
    secret.map((x) => `SELECT t0.id FROM ${from} ORDER BY ${x} DESC LIMIT 3`),
    secret.map((x) => `SELECT t0.id, ${x} FROM ${from} ORDER BY 2 LIMIT 3`),
    secret.map((x) => `SELECT t0.id AS i, ${x} AS s FROM ${from} ORDER BY s, i LIMIT 3`),
    secret.map((x) => `SELECT ${x} FROM ${from} INTERSECT SELECT 'S3CR3T-9001'`),
    secret.map((x) => `SELECT t0.id, regexp_split_to_table(${x}::text, '[0-9]') FROM ${from}`),
    secret.map((x) => `SELECT t0.id, l.v FROM ${from}, LATERAL (SELECT ${x}::text AS v) l`),
    secret.map((x) => `SELECT t0.id, g FROM ${from}, generate_series(1, length(${x}::text)) g`),
    secret.map((x) => `SELECT string_agg(t0.id::text, ',' ORDER BY ${x}) FROM ${from}`),
    secret.map((x) => `SELECT array_agg(t0.id) FILTER (WHERE ${x}::text > 'S3') FROM ${from}`),
    secret.map((x) => `SELECT mode() WITHIN GROUP (ORDER BY ${x}) FROM ${from}`),
    secret.map((x) => `SELECT (ARRAY['a','b','c'])[1 + length(${x}::text) % 3] FROM ${from}`),
    secret.map((x) => `SELECT t0.id FROM ${from} WHERE (SELECT ${x}::text) LIKE '%7%'`),
    secret.map((x) => `SELECT json_object_agg(${x}, t0.id) FROM ${from}`),
    secret.map((x) => `SELECT coalesce(nullif(${x}::text, 'S3CR3T-9001'), 'hit') FROM ${from}`),
    secret.map((x) => `SELECT (t0).* , (t0 IS NULL), t0::text, ${x} IS NULL FROM ${from}`),
    secret.map((x) => `SELECT to_jsonb(t0) ->> 'ssn', hashtext(${x}::text) FROM ${from}`),
    secret.map(
      (x) => `SELECT row_number() OVER (ORDER BY ${x}), t0.id FROM ${from} ORDER BY t0.id`,
    ),
    secret.map(
      (x) => `SELECT t0.id FROM ${from} GROUP BY t0.id, ${x} HAVING min(${x}::text) < 'T'`,
    ),
    secret.map(
      (x) => `SELECT t0.id FROM ${from} LIMIT (SELECT length(max(${x}::text)) FROM ${from})`,
    ),
    secret.map((x) => `EXPLAIN (ANALYZE, COSTS OFF) SELECT 1 FROM ${from} WHERE ${x}::text > 'S3'`),
    secret.map((x) => `EXPLAIN SELECT 1 FROM ${from} WHERE ${x}::text = 'S3CR3T-9001'`),
    secret.map((x) => `TABLE (SELECT ${x} FROM ${from})`).map((sql) => sql.slice(7, -1)),
    secret.map((x) => `SELECT ${x} FROM ${from} EXCEPT ALL SELECT name FROM users`),
    secret.map(
      (x) =>
        `WITH w(a) AS MATERIALIZED (SELECT ${x} FROM ${from}) SELECT count(*) FROM w WHERE a::text LIKE '%1%'`,
    ),
    secret.map(
      (x) => `SELECT t0.id FROM ${from} WHERE t0.id = ANY (SELECT length(${x}::text) FROM ${from})`,
    ),
    secret.map((x) => `SELECT CASE WHEN ${x}::text LIKE '%1' THEN t0.id END FROM ${from}`),
    secret.map(
      (x) => `SELECT bool_or(${x}::text > 'S3CR3T-9050'), bit_and(length(${x}::text)) FROM ${from}`,
    ),
    secret.map((x) => `SELECT lead(t0.id) OVER (ORDER BY ${x}) FROM ${from}`),
    secret.map((x) => `SELECT ntile(3) OVER (ORDER BY ${x} DESC), t0.id FROM ${from} ORDER BY 2`),
    secret.map((x) => `COPY (SELECT t0.id FROM ${from} ORDER BY ${x}) TO STDOUT`),
    secret.map((x) => `COPY (SELECT ${x}, upper(${x}::text) FROM ${from}) TO STDOUT (FORMAT csv)`),
  )
}

function sensitiveOutput({ sensitive }: Source): fc.Arbitrary<string> {
  return fc.tuple(fc.constantFrom(...sensitive), fc.nat(9)).map(([{ name, kind }, how]) => {
    if (how < 5) return name
    if (kind === 'int') return how < 8 ? `${name}::text` : `coalesce(${name}, 0)`
    return how < 7 ? `upper(${name})` : how < 9 ? `${name} || '!'` : `length(${name})`
  })
}

export function sample(
  query: fc.Arbitrary<string>,
  count: number,
  seed: number,
): readonly string[] {
  // Output names may clash in a sub-select only by name, which SELECT * allows.
  return fc.sample(query, { numRuns: count, seed })
}
