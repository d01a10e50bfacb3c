/** regate's own log: JSON lines on stderr, harmless where somebody reads them in a terminal. */
import { pino, type Logger } from 'pino'
import { harmlessJson } from '../core/core.ts'

const stderr = 2

/** @param base members of every line; pino's own (pid, hostname) when absent. */
export function openLog(level: string, base?: Readonly<Record<string, unknown>>): Logger {
  return pino(
    {
      level,
      ...(base === undefined ? {} : { base }),
      // JSON escapes C0, and neither C1 nor what turns the direction of writing.
      hooks: { streamWrite: harmlessJson },
    },
    pino.destination(stderr),
  )
}
