/** Settings of V8 for the processes that serve. */
import { setFlagsFromString } from 'node:v8'

/**
 * How V8 allocates in a process that serves sessions; to be called first in it.
 *
 * V8 puts at once among the old what comes from a place whose objects have lived long enough. Of a
 * proxy's objects, which live as long as a statement or a login, that is a wrong guess, and what lies
 * there keeps everything that it refers to until the next full collection: a sixth of the cost of a
 * statement (docs/decisions/performance.md). V8 reads the flag each time it matters, so it can be set
 * while it runs.
 */
export function tuneEngine(): void {
  setFlagsFromString('--no-allocation-site-pretenuring')
}
