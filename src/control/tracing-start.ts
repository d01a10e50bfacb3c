/**
 * OpenTelemetry's libraries are loaded only where something is traced: nobody else's start waits for
 * them, nor pays their memory (5 MB).
 */
import type { Tracing, TracingOptions } from './tracing.ts'

/** Starts tracing; to be closed. */
export async function startTracing(options: TracingOptions): Promise<Tracing> {
  const loaded = await import('./tracing.ts')
  return new loaded.Tracing(options)
}
