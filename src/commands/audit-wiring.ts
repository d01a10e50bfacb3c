/** From the configuration to the parts of the audit: what of results is recorded. */
import type { Configuration } from '../config/config.ts'

/** How much of a result is recorded; null where results are not. */
export function recordedOf({
  audit,
  limits,
}: Configuration): { readonly rowCountMax: number; readonly bytesMax: number } | null {
  if (audit.results === 'none') return null
  return { rowCountMax: limits.recordedRowCountMax, bytesMax: limits.recordedResultBytesMax }
}
