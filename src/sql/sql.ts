/**
 * The face of `sql`: text → statements (parser.ts) → what they touch (analysis.ts), with the
 * catalog's names (catalog.ts). Sans-I/O.
 */
export type * from './snapshot.ts'
export { firstUserOid } from './snapshot.ts'
export type * from './access.ts'
export { isSpace, SqlParser, type ParseResult, type SqlParserOptions } from './parser.ts'
export { parserVersion } from './libpg-query.ts'
export { statementKinds } from './parser-kinds.ts'
export {
  Catalog,
  systemColumns,
  type CatalogFunction,
  type CatalogOperator,
  type CatalogOverlay,
} from './catalog.ts'
export { castClass, inputClass, modifierClass, outputClass } from './catalog-conversion.ts'
export { settingName } from './expression-settings.ts'
export { searchedSchemas, splitIdentifiers } from './search-path.ts'
export {
  canonicalColumn,
  dottedColumn,
  dottedRelation,
  quoteIdentifier,
  splitDotted,
} from './catalog-identifier.ts'
export {
  extensionRelationClass,
  functionEffect,
  systemRelationClass,
  type SystemRelationClass,
} from './classes.ts'
export type { PlpgsqlBody } from './plpgsql.ts'
export { shapeOf, type Shape } from './shape.ts'
export { holdsSecret, redactLiterals, redactMessage } from './redact.ts'
export { traceParentOf, type TraceParent } from './trace-context.ts'
export { analyse } from './analysis.ts'
export { checkedElsewhere } from './analysis-domains.ts'
export type { AnalysisTools } from './analysis-context.ts'
