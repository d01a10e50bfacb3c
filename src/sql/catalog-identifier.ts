/**
 * How names are written: quote_ident as PostgreSQL does it (quote_identifier in
 * src/backend/utils/adt/ruleutils.c) and dotted column names, which are the keys of masks and the
 * `column` of an output's source. The keyword list is fixed, so a name is written the same
 * whatever the server's version is.
 */

/**
 * Keywords that quote_ident quotes: all but the unreserved ones, over PostgreSQL 14 to 18
 * (pg_get_keywords() where catcode is not U). `npm run generate:classes` checks the list.
 */
const quotedKeywords: ReadonlySet<string> = new Set(
  `all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
  boolean both case cast char character check coalesce collate collation column concurrently
  constraint create cross current_catalog current_date current_role current_schema current_time
  current_timestamp current_user dec decimal default deferrable desc distinct do else end except
  exists extract false fetch float for foreign freeze from full grant greatest group grouping
  having ilike in initially inner inout int integer intersect interval into is isnull join json
  json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
  json_serialize json_table json_value lateral leading least left like limit localtime
  localtimestamp merge_action national natural nchar none normalize not notnull null nullif numeric
  offset on only or order out outer overlaps overlay placing position precision primary real
  references returning right row select session_user setof similar smallint some substring symmetric
  system_user table tablesample then time timestamp to trailing treat trim true union unique user
  using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement
  xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable`
    .split(/\s+/)
    .filter((word) => word !== ''),
)

const plainIdentifier = /^[a-z_][a-z0-9_]*$/

/** The identifier as quote_ident writes it: quoted only where PostgreSQL would need it. */
export function quoteIdentifier(name: string): string {
  if (plainIdentifier.test(name) && !quotedKeywords.has(name)) return name
  return `"${name.replaceAll('"', '""')}"`
}

/** `schema.relation`, each part quoted where needed. */
export function dottedRelation(schema: string, relation: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(relation)}`
}

/** `schema.relation.column`, each part quoted where needed: the key of a mask in a decision. */
export function dottedColumn(schema: string, relation: string, column: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(relation)}.${quoteIdentifier(column)}`
}

/**
 * A column's name as dottedColumn writes it, however its parts are quoted: quote_ident of an older
 * server leaves bare what has become a keyword since. What is no column's name stays as it is.
 */
export function canonicalColumn(text: string): string {
  const [schema, relation, column, ...more] = splitDotted(text) ?? []
  if (schema === undefined || relation === undefined || column === undefined) return text
  return more.length > 0 ? text : dottedColumn(schema, relation, column)
}

/**
 * The parts of a dotted name, unquoted; null where it is not one. Unquoted parts are taken as they
 * are: a policy's names are not folded, `public.Users` names nothing that `public.users` does.
 */
export function splitDotted(text: string): readonly string[] | null {
  const parts: string[] = []
  let index = 0
  for (;;) {
    let part = ''
    if (text[index] === '"') {
      index += 1
      for (;;) {
        const end = text.indexOf('"', index)
        if (end === -1) return null
        part += text.slice(index, end)
        index = end + 1
        if (text[index] !== '"') break
        part += '"'
        index += 1
      }
    } else {
      const end = text.indexOf('.', index)
      part = end === -1 ? text.slice(index) : text.slice(index, end)
      if (part.includes('"')) return null
      index += part.length
    }
    if (part === '') return null
    parts.push(part)
    if (index === text.length) return parts
    if (text[index] !== '.') return null
    index += 1
  }
}
