/**
 * Runs one case in all three worlds and compares everything that was received, byte by byte. Only
 * what a client cannot learn from is evened out: process ids in notifications, the decision ids of
 * refusals, which are random by design, and the times that EXPLAIN ANALYZE prints (time is out of
 * scope, docs/guides/masking.md).
 */
import { backendTypes, decodeErrorOrNotice } from '../../src/wire/wire.ts'
import type { Case } from './cases.ts'
import { RawConnection, type Frame, type Mode, type Target } from './raw-connection.ts'
import { tidy, type World, type Worlds } from './worlds.ts'

/** Opens what the tested client sees of a world: the server itself or a proxy before it. */
export type Connect = (world: World) => Promise<RawConnection>

export function directly(world: World, database: string): Promise<RawConnection> {
  const { host, port, user, password } = world.server
  return RawConnection.connect({ host, port, user, password, database })
}

export function through(targets: ReadonlyMap<World['name'], Target>): Connect {
  return async (world) => {
    const target = targets.get(world.name)
    if (target === undefined) throw new Error(`no proxy before the world ${world.name}`)
    return await RawConnection.connect(target)
  }
}

export interface Transcript {
  /** Frames of every step, evened out. */
  readonly frames: readonly Frame[]
  readonly closed: boolean
  /** SQLSTATE of the first error. */
  readonly sqlstate: string | null
  readonly rowCount: number
  readonly copyBytes: number
}

export type Verdict =
  | { readonly kind: 'equal'; readonly first: Transcript }
  /** The exact copy differs as well: nothing can be said. */
  | { readonly kind: 'noise'; readonly first: Transcript }
  | { readonly kind: 'leak'; readonly first: Transcript; readonly difference: string }

/** Runs the steps of a case on a fresh connection. */
export async function run(
  connect: Connect,
  world: World,
  item: Case,
  mode: Mode,
): Promise<Transcript> {
  const connection = await connect(world)
  const frames: Frame[] = []
  try {
    for (const step of item.steps) {
      for (const frame of await connection.send(step, mode)) frames.push(evenOut(frame))
    }
  } finally {
    await connection.close()
  }
  if (/scratch/i.test(item.steps.join(' '))) await tidy(world)
  return summarise(frames, connection.closed)
}

const repeatsMax = 20

/** One statement on connections that are kept, for suites that are too long to connect each time. */
export class Comparison {
  readonly #connect: Connect
  readonly #worlds: Worlds
  #connections: readonly RawConnection[] = []

  constructor(connect: Connect, worlds: Worlds) {
    this.#connect = connect
    this.#worlds = worlds
  }

  /**
   * What differs by chance (random(), uuidv4()) may agree between the two equal worlds once: a leak
   * is judged again until they differ, and is one if they never do.
   */
  async judge(sql: string, mode: Mode): Promise<Verdict> {
    const found = await this.#judgeOnce(sql, mode)
    if (found.kind !== 'leak') return found
    for (let again = 0; again < repeatsMax; again += 1) {
      const verdict = await this.#judgeOnce(sql, mode)
      if (verdict.kind === 'noise') return verdict
    }
    return found
  }

  async #judgeOnce(sql: string, mode: Mode): Promise<Verdict> {
    if (this.#connections.length === 0 || this.#connections.some(({ closed }) => closed)) {
      await this.close()
      this.#connections = await Promise.all(
        this.#worlds.all.map(async (world) => await this.#connect(world)),
      )
    }
    const transcripts = await Promise.all(
      this.#connections.map(async (connection) => {
        const frames = (await connection.send(sql, mode)).map(evenOut)
        return summarise(frames, connection.closed)
      }),
    )
    const [first, control, other] = transcripts
    if (first === undefined || control === undefined || other === undefined) {
      throw new Error('a world is missing')
    }
    return verdictOf(first, control, other)
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map(async (connection) => await connection.close()))
    this.#connections = []
  }
}

/** The verdict on one case in one mode. */
export async function judge(
  connect: Connect,
  worlds: Worlds,
  item: Case,
  mode: Mode,
): Promise<Verdict> {
  const [first, control, other] = await Promise.all([
    run(connect, worlds.first, item, mode),
    run(connect, worlds.control, item, mode),
    run(connect, worlds.other, item, mode),
  ])
  return verdictOf(first, control, other)
}

/** The verdict on frames that a script sends by hand, on a fresh connection in each world. */
export async function judgeScript(
  connect: Connect,
  worlds: Worlds,
  script: (connection: RawConnection) => Promise<readonly Frame[]>,
): Promise<Verdict> {
  const [first, control, other] = await Promise.all(
    [worlds.first, worlds.control, worlds.other].map(async (world) => {
      const connection = await connect(world)
      try {
        return summarise((await script(connection)).map(evenOut), connection.closed)
      } finally {
        await connection.close()
      }
    }),
  )
  if (first === undefined || control === undefined || other === undefined) {
    throw new Error('a world is missing')
  }
  return verdictOf(first, control, other)
}

function verdictOf(first: Transcript, control: Transcript, other: Transcript): Verdict {
  if (!same(first, control)) return { kind: 'noise', first }
  if (same(first, other)) return { kind: 'equal', first }
  return { kind: 'leak', first, difference: differenceOf(first, other) }
}

export function same(a: Transcript, b: Transcript): boolean {
  return (
    a.frames.length === b.frames.length &&
    a.frames.every((frame, index) => frame.equals(b.frames[index] ?? Buffer.alloc(0)))
  )
}

/** What a list of frames amounts to. */
export function summarise(frames: readonly Frame[], closed: boolean): Transcript {
  let sqlstate: string | null = null
  let rowCount = 0
  let copyBytes = 0
  for (const frame of frames) {
    if (frame[0] === backendTypes.DataRow) rowCount += 1
    if (frame[0] === backendTypes.CopyData) copyBytes += frame.length - 5
    if (frame[0] === backendTypes.ErrorResponse) sqlstate ??= fieldsOf(frame).get('C') ?? null
  }
  return { frames, closed, sqlstate, rowCount, copyBytes }
}

export function fieldsOf(frame: Frame): ReadonlyMap<string, string> {
  return decodeErrorOrNotice({ buffer: frame, start: 0, end: frame.length })
}

const decisionId =
  /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\bdecision(?: id)?:? \S+/gi

function evenOut(frame: Frame): Frame {
  if (frame[0] === backendTypes.NotificationResponse) {
    const copy = Buffer.from(frame)
    copy.fill(0, 5, 9)
    return copy
  }
  if (frame[0] === backendTypes.ErrorResponse || frame[0] === backendTypes.NoticeResponse) {
    return Buffer.from(frame.toString('latin1').replace(decisionId, 'decision'), 'latin1').fill(
      0,
      1,
      5,
    )
  }
  if (frame[0] === backendTypes.DataRow && planTime.test(frame.toString('latin1'))) {
    return Buffer.from(frame.toString('latin1').replace(planTimes, '$1'), 'latin1').fill(0, 1, 11)
  }
  return frame
}

const planTime = /(?:Planning|Execution) Time"?:/
const planTimes = /(Time"?: )[\d.]+/g

/** The first frames that differ, readable. */
function differenceOf(a: Transcript, b: Transcript): string {
  const count = Math.max(a.frames.length, b.frames.length)
  for (let index = 0; index < count; index += 1) {
    const left = a.frames[index]
    const right = b.frames[index]
    if (left !== undefined && right !== undefined && left.equals(right)) continue
    return `frame ${index}: ${show(left)} <> ${show(right)}`
  }
  return 'none'
}

function show(frame: Frame | undefined): string {
  if (frame === undefined) return '(nothing)'
  const text = frame.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
