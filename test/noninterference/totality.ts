/**
 * Every function, operator, cast and aggregate of the server over masked columns whose values are
 * harmless in one world and extreme in the other: the largest and smallest numbers, NaN, infinities,
 * empty and broken-looking texts, odd documents. What is classed as total runs, and then no extreme
 * may show: not as an error, not as another number of rows. What is not total must be refused.
 */
import type pg from 'pg'
import type { Classified } from './proxies.ts'
import type { Extra } from './worlds.ts'

interface Values {
  readonly harmless: string
  readonly extreme: readonly string[]
}

const types: Readonly<Record<string, Values>> = {
  bool: { harmless: 't', extreme: ['f', 't'] },
  int2: { harmless: '7', extreme: ['-32768', '32767', '0', '-1'] },
  int4: { harmless: '7', extreme: ['-2147483648', '2147483647', '0', '-1', '1000000'] },
  int8: { harmless: '7', extreme: ['-9223372036854775808', '9223372036854775807', '0', '-1'] },
  float4: { harmless: '1.5', extreme: ['NaN', 'Infinity', '-Infinity', '3.4e38', '1e-40', '0'] },
  float8: { harmless: '1.5', extreme: ['NaN', 'Infinity', '-Infinity', '1.7e308', '4e-324', '-1'] },
  numeric: {
    harmless: '1.5',
    extreme: ['NaN', 'Infinity', '-Infinity', '0', '-1', `1${'0'.repeat(300)}`],
  },
  text: {
    harmless: 'abc',
    extreme: ['', '\\', '%', '{', 'ünïcödé', '\u{10ffff}', '2026-13-45', 'x'.repeat(3000)],
  },
  varchar: { harmless: 'abc', extreme: ['', '\\', '[', '(', '\u{1f600}'] },
  bpchar: { harmless: 'abc', extreme: ['', '\\', '  '] },
  name: { harmless: 'abc', extreme: ['', '"', '\\'] },
  '"char"': { harmless: 'a', extreme: ['', '\\377'] },
  bytea: { harmless: '\\x61', extreme: ['\\x', '\\xff00fe', '\\x5c'] },
  date: {
    harmless: '2026-01-01',
    extreme: ['infinity', '-infinity', '4714-11-24 BC', '5874897-12-31'],
  },
  time: { harmless: '01:00', extreme: ['24:00', '00:00'] },
  timetz: { harmless: '01:00+00', extreme: ['24:00-15:59', '00:00+15:59'] },
  timestamp: {
    harmless: '2026-01-01',
    extreme: ['infinity', '-infinity', '4714-11-24 BC', '294276-12-31'],
  },
  timestamptz: {
    harmless: '2026-01-01',
    extreme: ['infinity', '-infinity', '4714-11-25 BC', '294276-12-31 UTC'],
  },
  interval: {
    harmless: '1 day',
    extreme: ['178956970 years', '-178956970 years', '0', '2147483647 days'],
  },
  uuid: {
    harmless: 'deaddead-dead-4ead-8ead-000000000001',
    extreme: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
  },
  inet: { harmless: '10.0.0.1', extreme: ['::', 'ffff::ffff/1', '255.255.255.255', '0.0.0.0/0'] },
  cidr: { harmless: '10.0.0.0/8', extreme: ['::/0', '0.0.0.0/0', '255.255.255.255/32'] },
  macaddr: { harmless: '08:00:2b:01:02:03', extreme: ['ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00'] },
  macaddr8: { harmless: '08:00:2b:ff:fe:01:02:03', extreme: ['ff:ff:ff:ff:ff:ff:ff:ff'] },
  varbit: { harmless: '101', extreme: ['', '1', '1'.repeat(100)] },
  json: {
    harmless: '{"a": 1}',
    extreme: ['[]', '1', '"x"', 'null', '{"a": 1, "a": "\\u0000"}', '[[1], "\\ud800"]'],
  },
  jsonb: {
    harmless: '{"a": 1}',
    extreme: ['[]', '1', '"x"', 'null', '{}', '[[1, [2]], {"a": null}]', '-1e300'],
  },
  jsonpath: { harmless: '$.a', extreme: ['$', 'strict $.b', '$ ? (@ > 1)', '$.a.keyvalue()'] },
  'text[]': { harmless: '{a,b}', extreme: ['{}', '{NULL}', '{{a},{b}}', '[5:6]={x,y}', '{""}'] },
  'int4[]': {
    harmless: '{1,2}',
    extreme: ['{}', '{NULL}', '{{1},{2}}', '[-2147483648:-2147483648]={1}'],
  },
  int4range: { harmless: '[1,3)', extreme: ['empty', '(,)', '[2147483646,2147483647)', '(,5)'] },
  numrange: { harmless: '[1,3)', extreme: ['empty', '(,)', '[NaN,NaN]', '(7,9)'] },
  int4multirange: { harmless: '{[1,3)}', extreme: ['{}', '{(,)}', '{[1,2),[5,7)}'] },
  tsvector: { harmless: "'a':1", extreme: ['', "'b':1A,2B", "'a' 'b' 'c'"] },
  tsquery: { harmless: "'a'", extreme: ['', "!'b'", "'a' <-> 'b'"] },
  point: {
    harmless: '(1,2)',
    extreme: ['(NaN,0)', '(Infinity,-Infinity)', '(1e300,1e300)', '(0,0)'],
  },
  lseg: { harmless: '[(1,2),(3,4)]', extreme: ['[(0,0),(0,0)]', '[(NaN,1),(1,1)]'] },
  box: { harmless: '(3,4),(1,2)', extreme: ['(0,0),(0,0)', '(1e300,1e300),(-1e300,-1e300)'] },
  path: { harmless: '[(1,2),(3,4)]', extreme: ['((0,0))', '((NaN,1),(1,1))', '[(1e300,1e300)]'] },
  polygon: { harmless: '((1,2),(3,4),(5,0))', extreme: ['((0,0))', '((1e300,1e300),(NaN,2))'] },
  line: { harmless: '{1,2,3}', extreme: ['{0,1,0}', '{1,0,0}', '{1e300,1e300,0}'] },
  circle: { harmless: '<(1,2),3>', extreme: ['<(0,0),0>', '<(1e300,1e300),1e300>'] },
  money: { harmless: '1', extreme: ['-92233720368547758.08', '92233720368547758.07', '0'] },
  xml: { harmless: '<a/>', extreme: ['', 'a<b/>c', '<a xmlns="x"/>'] },
  oid: { harmless: '1259', extreme: ['0', '4294967295'] },
  xid8: { harmless: '1', extreme: ['0', '18446744073709551615'] },
  pg_lsn: { harmless: '0/1', extreme: ['0/0', 'FFFFFFFF/FFFFFFFF'] },
  regclass: { harmless: 'pg_class', extreme: ['0', '4294967295'] },
  regtype: { harmless: 'text', extreme: ['0', '4294967295'] },
}

const columnName = (type: string, side: 'a' | 'b'): string =>
  `${type.replaceAll('"', 'q').replaceAll('[]', '_array')}_${side}`

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The most values of any type: rows are all pairs of them. */
const valueCount = Math.max(...Object.values(types).map(({ extreme }) => extreme.length))

function tableSql(valueOf: (values: Values, index: number) => string): string {
  const names = Object.keys(types)
  const columns = names.flatMap((type) => [
    `${columnName(type, 'a')} ${type}`,
    `${columnName(type, 'b')} ${type}`,
  ])
  const rows: string[] = []
  for (let i = 0; i < valueCount; i += 1) {
    for (let j = 0; j < valueCount; j += 1) {
      const values = Object.values(types).flatMap((each) => [
        literal(valueOf(each, i)),
        literal(valueOf(each, j)),
      ])
      rows.push(`(${[i * valueCount + j, ...values].join(', ')})`)
    }
  }
  return (
    `CREATE TABLE edge (id int PRIMARY KEY, ${columns.join(', ')});\n` +
    `INSERT INTO edge VALUES ${rows.join(',\n')};`
  )
}

/** What each world's script needs after the corpus. */
export const edgeTables: Extra = {
  first: tableSql(({ harmless }) => harmless),
  other: tableSql(({ extreme }, index) => extreme[index % extreme.length] ?? ''),
}

/** Every column but the id is masked; documents to NULL, since redaction shows their shape. */
export const edgeClassified: Classified = Object.fromEntries(
  Object.keys(types).flatMap((type) =>
    (['a', 'b'] as const).map((side) => [
      `public.edge.${dotted(columnName(type, side))}`,
      {
        class: 'pii',
        mask: { kind: type.startsWith('json') ? ('null' as const) : ('redact' as const) },
      },
    ]),
  ),
)

function dotted(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name}"`
}

/** A column of the type, or of one that stands for a polymorphic one. */
function argument(type: string, index: number): string | null {
  const standIns: Readonly<Record<string, string>> = {
    anyelement: 'int4',
    anycompatible: 'int4',
    anynonarray: 'int4',
    any: 'text',
    anyarray: 'int4[]',
    anycompatiblearray: 'int4[]',
    anycompatiblenonarray: 'int4',
    anyrange: 'int4range',
    anycompatiblerange: 'int4range',
    anymultirange: 'int4multirange',
    anycompatiblemultirange: 'int4multirange',
  }
  const aliases: Readonly<Record<string, string>> = {
    boolean: 'bool',
    smallint: 'int2',
    integer: 'int4',
    bigint: 'int8',
    real: 'float4',
    'double precision': 'float8',
    'character varying': 'varchar',
    character: 'bpchar',
    'time without time zone': 'time',
    'time with time zone': 'timetz',
    'timestamp without time zone': 'timestamp',
    'timestamp with time zone': 'timestamptz',
    'bit varying': 'varbit',
    'integer[]': 'int4[]',
  }
  const bare = type.replaceAll('"any"', 'any')
  const known = standIns[bare] ?? aliases[bare] ?? bare
  return known in types ? columnName(known, index % 2 === 0 ? 'a' : 'b') : null
}

/** The harmless value of a column as a literal of its type. */
function literalLike(column: string | null): string {
  const type = Object.keys(types).find(
    (name) => column?.slice(0, -2) === columnName(name, 'a').slice(0, -2),
  )
  const values = type === undefined ? undefined : types[type]
  return values === undefined ? 'NULL' : `${literal(values.harmless)}::${type ?? 'text'}`
}

/** Spellings of the grammar's own, and calls as people write them. */
const handwritten: readonly string[] = [
  ...['year', 'week', 'epoch', 'hour', 'timezone', 'nonsense'].flatMap((unit) =>
    ['date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval'].flatMap((type) => [
      `extract(${unit} FROM ${type}_a)`,
      `date_part('${unit}', ${type}_a)`,
      `date_trunc('${unit}', ${type}_a)`,
    ]),
  ),
  ...['+', '-', '*', '/', '%', '^', '<', '=', '&', '|', '#', '<<'].flatMap((operator) =>
    ['int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'money'].flatMap((type) => [
      `${type}_a ${operator} 2`,
      `2 ${operator} ${type}_a`,
      `-${type}_a`,
      `@ ${type}_a`,
    ]),
  ),
  ...['date', 'timestamp', 'timestamptz', 'time', 'timetz', 'interval'].flatMap((type) => [
    `${type}_a + interval '1 day'`,
    `${type}_a - interval '1 year'`,
    `${type}_a - ${type}_b`,
    `${type}_a AT TIME ZONE 'Europe/Berlin'`,
    `age(${type}_a)`,
    `to_char(${type}_a, 'YYYY-MM-DD TZ')`,
    `${type}_a > now()`,
    `${type}_a BETWEEN '2000-01-01' AND '2030-01-01'`,
    `(${type}_a, ${type}_b) OVERLAPS (${type}_b, ${type}_a)`,
  ]),
  ...['text', 'varchar', 'bpchar', 'name'].flatMap((type) =>
    [
      'LIKE $',
      "LIKE 'a%'",
      "LIKE '%\\'",
      "LIKE 'a\\%'",
      "NOT LIKE '%b%'",
      "ILIKE 'A_'",
      "~ 'a+'",
      "~* '(a|b)'",
      "SIMILAR TO 'a%'",
      "LIKE 'a!%' ESCAPE '!'",
      '|| 1',
      '|| 1.5',
      '|| now()',
      'COLLATE "C" < \'b\'',
      "< 'b'",
      "IN ('a', 'b')",
      "= ANY ('{a,b}')",
      "^@ 'a'",
    ].map((tail) => `${type}_a ${tail}`),
  ),
  ...[
    'left(text_a, 3), right(text_a, -2), substr(text_a, 2, 3), substring(text_a FROM 2 FOR 1)',
    "substring(text_a FROM 'a(b)'), regexp_replace(text_a, 'a', 'b'), regexp_match(text_a, 'a')",
    "split_part(text_a, ',', 1), split_part(text_a, ',', 0), string_to_array(text_a, ',')",
    "lpad(text_a, 5), rpad(text_a, 5, '*'), repeat(text_a, 2), overlay(text_a PLACING 'x' FROM 1)",
    "trim(BOTH 'x' FROM text_a), btrim(text_a), translate(text_a, 'a', 'b'), initcap(text_a)",
    "position('a' IN text_a), strpos(text_a, 'a'), ascii(text_a), chr(int4_a), quote_ident(text_a)",
    "md5(text_a), sha256(bytea_a), encode(bytea_a, 'hex'), decode(text_a, 'hex'), convert_from(bytea_a, 'UTF8')",
    "convert_to(text_a, 'UTF8'), convert_to(text_a, 'LATIN1'), normalize(text_a), text_a IS NORMALIZED",
    "unistr(text_a), to_number(text_a, '999'), to_date(text_a, 'YYYY'), to_timestamp(text_a, 'YYYY')",
    "format('%s', text_a), format(text_a, 1), concat(text_a, 1), concat_ws(text_a, 'a', 'b')",
    "to_char(int4_a, '999'), to_char(numeric_a, '9.9V9'), to_char(float8_a, 'EEEE')",
    'round(numeric_a, 2), round(numeric_a), trunc(numeric_a, 1), ceil(float8_a), sqrt(float8_a), ln(numeric_a)',
    'power(float8_a, 2), width_bucket(float8_a, 0, 1, 5), mod(int4_a, 3), div(numeric_a, 2), gcd(int4_a, 2)',
    'make_date(int4_a, 1, 1), make_interval(days => int4_a), to_timestamp(float8_a), factorial(int8_a)',
    'int4_array_a[1], int4_array_a[int4_a], int4_array_a[1:2], text_array_a[1], array_length(int4_array_a, 1)',
    'array_append(int4_array_a, 1), array_cat(int4_array_a, int4_array_b), int4_array_a || 1, 1 || int4_array_a',
    "array_remove(int4_array_a, 1), array_position(int4_array_a, 1), array_to_string(text_array_a, ',')",
    'cardinality(int4_array_a), int4_array_a @> ARRAY[1], unnest(int4_array_a), array_fill(int4_a, ARRAY[2])',
    "1 = ANY (int4_array_a), 1 < ALL (int4_array_a), 'a' LIKE ANY (text_array_a), array_dims(int4_array_a)",
    "jsonb_a -> 'a', jsonb_a ->> 'a', jsonb_a -> 0, jsonb_a['a'], jsonb_a #>> '{a,b}', jsonb_a ? 'a'",
    "jsonb_a - 'a', jsonb_a || '{}', jsonb_a @> '{}', jsonb_a @? '$.a', jsonb_a @@ '$.a > 1', jsonb_pretty(jsonb_a)",
    "jsonb_set(jsonb_a, '{a}', '1'), jsonb_path_query_first(jsonb_a, '$.a'), jsonb_path_exists(jsonb_a, 'strict $.b')",
    "(jsonb_a ->> 'a')::int, (jsonb_a -> 'a')::int, jsonb_array_length(jsonb_a), jsonb_typeof(jsonb_a)",
    "json_a ->> 'a', json_typeof(json_a), json_array_length(json_a), json_strip_nulls(json_a), json_a IS JSON",
    "text_a IS JSON, JSON_VALUE(jsonb_a, '$.a'), JSON_QUERY(jsonb_a, '$.a'), JSON_EXISTS(jsonb_a, '$.a')",
    "JSON_ARRAY(int4_a), JSON_OBJECT('k': text_a), JSON_OBJECT(text_a: 1), JSON_SCALAR(int4_a), JSON(text_a)",
    'xmlelement(name x, text_a), xmlforest(text_a AS y), xmlconcat(xml_a, xml_b), xmlcomment(text_a), xmlparse(CONTENT text_a)',
    "xpath('/a', xml_a), xmlserialize(CONTENT xml_a AS text), xmlpi(name php, text_a), xmlroot(xml_a, VERSION '1.0')",
    "to_tsvector('simple', text_a), to_tsquery('simple', text_a), ts_headline(text_a, tsquery_a), tsvector_a @@ tsquery_a",
    "inet_a << '10.0.0.0/8', inet_a + 1, host(inet_a), set_masklen(inet_a, 8), set_masklen(inet_a, 64), ~ inet_a",
    'lower(int4range_a), int4range_a * int4range_b, int4range_a + int4range_b, int4range(int4_a, int4_b), upper(numrange_a)',
    "coalesce(int4_a, 0), nullif(text_a, ''), greatest(int4_a, 1), CASE WHEN bool_a THEN 1 ELSE 0 END, CASE WHEN bool_a THEN 1/0 END",
    'bool_a AND bool_b, NOT bool_a, bool_a IS TRUE, bool_a::int, bool_a::text, int4_a::bool',
    'int4_a::text, text_a::int, int8_a::int, float8_a::int, numeric_a::int, float8_a::float4, text_a::varchar(2), text_a::name',
    'count(text_a), count(DISTINCT text_a), sum(int2_a), sum(int4_a), sum(int8_a), avg(int4_a), avg(float8_a), stddev(numeric_a)',
    "string_agg(text_a, ','), array_agg(text_a), array_agg(int4_array_a), json_agg(json_a), jsonb_agg(text_a), json_object_agg(text_a, 1)",
    'jsonb_object_agg(text_a, 1), xmlagg(xml_a), bool_and(bool_a), max(text_a), min(inet_a), max(int4_array_a), mode() WITHIN GROUP (ORDER BY text_a)',
    'percentile_cont(0.5) WITHIN GROUP (ORDER BY float8_a), percentile_cont(float8_a) WITHIN GROUP (ORDER BY 1.0::float8), any_value(text_a)',
    'ROW(text_a, int4_a), (ROW(text_a, int4_a))::text, edge, edge::text, to_jsonb(edge), row_to_json(edge), ROW(edge.*) IS NULL',
    'pg_typeof(text_a), pg_column_size(text_a), hashtext(text_a), octet_length(bytea_a), bit_length(text_a), get_byte(bytea_a, 0), set_bit(bytea_a, 1, 1)',
    "regclass_a::text, oid_a::regclass, oid_a::regtype::text, format_type(oid_a, int4_a), pg_get_viewdef(oid_a), has_table_privilege(oid_a, 'select')",
    "nextval(text_a::regclass), setval('s', int8_a), pg_sleep(float8_a / 1e9), pg_advisory_lock(int8_a), set_config('a.b', text_a, false)",
    'random() < float8_a, setseed(float8_a), random(int4_a, int4_b), gen_random_uuid(), uuid_a < uuid_b, uuid_extract_version(uuid_a)',
  ].flatMap((list) => splitList(list)),
]

/** Splits at commas outside parentheses, brackets, braces and quotes. */
function splitList(list: string): readonly string[] {
  const parts: string[] = []
  let depth = 0
  let quoted = false
  let part = ''
  for (const character of list) {
    if (character === "'") quoted = !quoted
    else if (!quoted && '([{'.includes(character)) depth += 1
    else if (!quoted && ')]}'.includes(character)) depth -= 1
    if (character === ',' && depth === 0 && !quoted) {
      parts.push(part.trim())
      part = ''
    } else part += character
  }
  return [...parts, part.trim()]
}

/** Queries over `edge`, from the server's own catalogs. */
export async function totalityQueries(admin: pg.Client): Promise<readonly string[]> {
  const expressions = new Set<string>()
  await addFunctions(admin, expressions)
  await addOperators(admin, expressions)
  for (const type of Object.keys(types)) {
    const column = columnName(type, 'a')
    for (const target of Object.keys(types)) expressions.add(`${column}::${target}`)
    for (const target of ['varchar(2)', 'char(2)', 'numeric(3,1)', 'bit(2)', 'timestamp(0)']) {
      expressions.add(`${column}::${target}`)
    }
    for (const special of [
      `coalesce(${column}, NULL)`,
      `nullif(${column}, ${columnName(type, 'b')})`,
      `greatest(${column}, ${columnName(type, 'b')})`,
      `${column} IS NULL`,
      `${column} IS DISTINCT FROM ${columnName(type, 'b')}`,
      `ARRAY[${column}, ${columnName(type, 'b')}]`,
      `ROW(${column})`,
      `CASE WHEN ${column} IS NULL THEN 1 ELSE 2 END`,
      `${column} = ANY (ARRAY[${columnName(type, 'b')}])`,
      `to_json(${column})`,
      `json_build_object('a', ${column})`,
      `xmlforest(${column})`,
      `${column} || ''`,
      `format('%s', ${column})`,
      `concat(${column}, 'x')`,
    ]) {
      expressions.add(special)
    }
  }
  addPairs(expressions)
  for (const expression of handwritten) {
    expressions.add(expression)
    expressions.add(`max(length((${expression})::text)) OVER ()`)
  }
  return [...expressions].map((expression) => `SELECT ${expression} AS v FROM edge`)
}

/** Two types in one place: what makes them one may fail. Pairs that do not go together are errors. */
function addPairs(expressions: Set<string>): void {
  const families: readonly (readonly string[])[] = [
    ['int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'oid', 'money', 'bool'],
    ['date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval'],
    ['text', 'varchar', 'bpchar', 'name', '"char"', 'xml', 'json', 'jsonb', 'bytea'],
    ['inet', 'cidr', 'macaddr', 'macaddr8'],
    ['int4range', 'int4multirange', 'numrange', 'text[]', 'int4[]', 'regclass', 'int4'],
  ]
  for (const family of families) {
    for (const left of family) {
      for (const right of family) {
        const a = columnName(left, 'a')
        const b = columnName(right, 'b')
        for (const pair of [
          `coalesce(${a}, ${b})`,
          `greatest(${a}, ${b})`,
          `nullif(${a}, ${b})`,
          `ARRAY[${a}, ${b}]`,
          `CASE WHEN true THEN ${a} ELSE ${b} END`,
          `CASE ${a} WHEN ${b} THEN 1 END`,
          `${a} IN (${b}, ${b})`,
          `${a} BETWEEN ${b} AND ${b}`,
          `${a} IS DISTINCT FROM ${b}`,
          `ROW(${a}, 1) = ROW(${b}, 1)`,
          `ROW(${a}, 1) < ROW(${b}, 1)`,
          `(SELECT max(x) FROM (VALUES (${a}), (${b})) v(x))`,
          `(SELECT count(*) FROM (SELECT ${a} UNION ALL SELECT ${b}) u)`,
          `max(${a}) OVER (ORDER BY id)`,
          `lag(${a}, 1, ${b}) OVER (ORDER BY id)`,
          `json_build_object('a', ${a}, 'b', ${b})`,
          `concat_ws(',', ${a}, ${b})`,
          `(${a})::text || (${b})::text`,
          `to_jsonb(ROW(${a}, ${b}))`,
          `ROW(${a}, ${b})::text`,
        ]) {
          expressions.add(pair)
        }
      }
    }
  }
}

async function addFunctions(admin: pg.Client, expressions: Set<string>): Promise<void> {
  const { rows } = await admin.query<{ name: string; types: string[]; kind: string }>(`
    SELECT proname AS name, prokind AS kind,
           ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) t) AS types
    FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w')
      AND pronargs BETWEEN 1 AND 4 AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    ORDER BY proname, oid`)
  for (const { name, types: argumentTypes, kind } of rows) {
    const given = argumentTypes.map(argument)
    if (given.includes(null)) continue
    const call = `pg_catalog.${JSON.stringify(name)}(${given.join(', ')})`
    expressions.add(kind === 'w' ? `${call} OVER (ORDER BY id)` : call)
    // One column, the rest literals: what is total only with a literal beside it.
    for (const [position, column] of given.entries()) {
      if (given.length < 2 || kind === 'w') continue
      const mixed = given.map((other, index) => (index === position ? column : literalLike(other)))
      expressions.add(`pg_catalog.${JSON.stringify(name)}(${mixed.join(', ')})`)
    }
  }
}

async function addOperators(admin: pg.Client, expressions: Set<string>): Promise<void> {
  const { rows } = await admin.query<{ name: string; left: string | null; right: string }>(`
    SELECT DISTINCT oprname AS name, CASE WHEN oprleft = 0 THEN NULL ELSE format_type(oprleft, NULL) END AS left,
           format_type(oprright, NULL) AS right
    FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace ORDER BY 1, 2, 3`)
  for (const { name, left, right } of rows) {
    const after = argument(right, 1)
    const before = left === null ? '' : argument(left, 0)
    if (after !== null && before !== null) expressions.add(`${before} ${name} ${after}`)
  }
}
