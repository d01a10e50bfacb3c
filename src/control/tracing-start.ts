/**
 * OpenTelemetry's libraries are loaded only where something is traced: they cost 100 ms of every start
 * and 10 MB of memory otherwise.
 */
import type { Tracing, TracingOptions } from './tracing.ts'

/** Starts tracing; to be closed. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const loaded = await import('./tracing.ts')
  return new loaded.Tracing(options)
}
