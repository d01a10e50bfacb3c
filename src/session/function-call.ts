/**
 * FunctionCall (F) names a function by its oid and carries its arguments: nothing to parse. Only
 * the large object functions are served, because libpq and JDBC call them so; each is judged as the
 * SELECT it stands for. Their oids are the same in every version (src/include/catalog/pg_proc.dat).
 */
const largeObjectFunctions: ReadonlyMap<number, { readonly name: string; readonly count: number }> =
  new Map([
    [715, { name: 'lo_create', count: 1 }],
    [764, { name: 'lo_import', count: 1 }],
    [765, { name: 'lo_export', count: 2 }],
    [767, { name: 'lo_import', count: 2 }],
    [952, { name: 'lo_open', count: 2 }],
    [953, { name: 'lo_close', count: 1 }],
    [954, { name: 'loread', count: 2 }],
    [955, { name: 'lowrite', count: 2 }],
    [956, { name: 'lo_lseek', count: 3 }],
    [957, { name: 'lo_creat', count: 1 }],
    [958, { name: 'lo_tell', count: 1 }],
    [964, { name: 'lo_unlink', count: 1 }],
    [1004, { name: 'lo_truncate', count: 2 }],
    [3170, { name: 'lo_lseek64', count: 3 }],
    [3171, { name: 'lo_tell64', count: 1 }],
    [3172, { name: 'lo_truncate64', count: 2 }],
  ])

/** The statement that the call is judged as; null for a function that is not served this way. */
export function textOfCall(functionOid: number, argumentCount: number): Buffer | null {
  const known = largeObjectFunctions.get(functionOid)
  if (known === undefined || known.count !== argumentCount) return null
  const parameters = Array.from({ length: known.count }, (_, index) => `$${index + 1}`)
  return Buffer.from(`SELECT pg_catalog.${known.name}(${parameters.join(', ')})`)
}
