/**
 * RowDescriptions that came before: for texts of one shape, which share their analysis, the server says
 * the same each time, and comparing bytes costs less than binding a plan to the fields anew.
 *
 * Only of plans that mask nothing: those of one analysis are all alike.
 */
import type { Admitted } from '../gate/gate.ts'
import type { Analysis, Catalog } from '../sql/sql.ts'
import { decodeRowDescription, type FrameView } from '../wire/wire.ts'
import type { Prepared } from './registry.ts'
import type { Judgements } from './room.ts'
import { bindResult, type BoundPlan } from './results.ts'

interface Known {
  readonly frame: Buffer
  readonly catalog: Catalog
  readonly bound: BoundPlan
}

/** Those of one session. */
export class Descriptions {
  readonly #known = new WeakMap<Analysis, Known>()

  /** Binds the plan to what the server described, or finds what it was bound to before. */
  bind(
    admitted: Admitted,
    view: FrameView,
    catalog: Catalog,
    options: Parameters<typeof bindResult>[4],
  ): BoundPlan {
    const { analysis } = admitted
    const open = admitted.plan.kind === 'open'
    const known = open ? this.#known.get(analysis) : undefined
    if (known !== undefined && known.catalog === catalog && sameFrame(known.frame, view)) {
      return known.bound
    }
    const bound = bindResult(admitted, decodeRowDescription(view), null, catalog, options)
    if (open && bound.kind === 'bound') {
      this.#known.set(analysis, { frame: copyOf(view), catalog, bound })
    }
    return bound
  }
}

/** A client describes a portal each time it executes it, and the server says the same each time. */
export function describe(prepared: Prepared, view: FrameView, judgements: Judgements): void {
  const { fields, description } = prepared
  prepared.fieldsOutdated = false
  if (fields !== null && description !== null && sameFrame(description, view)) return
  prepared.fields = decodeRowDescription(view)
  prepared.description = copyOf(view)
  prepared.bounds.clear()
  judgements.described(prepared, prepared.description.length)
}

function sameFrame(frame: Buffer, view: FrameView): boolean {
  return frame.compare(view.buffer, view.start, view.end) === 0
}

function copyOf(view: FrameView): Buffer {
  return Buffer.from(view.buffer.subarray(view.start, view.end))
}
