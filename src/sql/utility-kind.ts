/** The kind of a statement inside another (PREPARE, DECLARE): as the parser names it. */
export function statementKind(tag: string): string {
  return tag.replace(/Stmt$/, '').toLowerCase()
}
