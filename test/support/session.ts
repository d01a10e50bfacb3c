/**
 * A Session between scripted bytes, without sockets: what the client and the server sent goes in, what
 * either would have been written comes out. The commit of its audit is the test's to decide.
 */
import { defaultLimits, systemClock, type Limits } from '../../src/core/core.ts'
import { Gate, sessionMembers } from '../../src/gate/gate.ts'
import { Judge, type Policy } from '../../src/policy/policy.ts'
import { Session, TurnEnd, type CatalogPort } from '../../src/session/session.ts'
import type { Catalog, SqlParser } from '../../src/sql/sql.ts'
import { FrameReader } from '../../src/wire/wire.ts'
import { identityOf } from '../policy/facts.ts'

export interface ScriptedOptions {
  readonly parser: SqlParser
  readonly policy: Policy
  readonly catalog: Catalog
  readonly limits?: Partial<Limits>
  readonly groups?: readonly string[]
  /** Of each commit; absent: durable at once. */
  readonly commit?: () => Promise<void> | void
  readonly port?: Partial<CatalogPort>
}

export class ScriptedSession {
  readonly session: Session
  /** The bytes that went to either side, oldest first. */
  readonly upstream: Buffer[] = []
  readonly client: Buffer[] = []
  ended: 'terminated' | { readonly error: unknown } | null = null

  constructor(options: ScriptedOptions) {
    const { parser, policy, catalog } = options
    const limits = { ...defaultLimits, ...options.limits }
    const clock = systemClock
    const audit = { append: () => undefined, commit: options.commit ?? ((): void => undefined) }
    let decisions = 0
    const newDecisionId = (): string => `d${++decisions}`
    const onFault = (): void => undefined
    const judge = new Judge({ policy, limits })
    const gate = new Gate({
      ...{ parser, judge, limits, clock, newDecisionId, onFault, literals: 'keep' as const },
    })
    const identity = identityOf(options.groups ?? ['admins'])
    const settled = Promise.resolve()
    this.session = new Session(
      {
        ...{ id: 's1', gate, audit, limits, clock, newDecisionId, onFault, identity },
        turnEnd: new TurnEnd({
          ...{ audit, clock, durations: gate.statistics.audit, schedule: setImmediate },
        }),
        catalog: {
          ...{ current: () => catalog, refresh: () => settled, recheck: () => null },
          ...{ outdated: false, outdate: () => undefined },
          overlay: () => Promise.reject(new Error('no overlay here')),
          ...options.port,
        },
        ...{ holds: null, maskKey: Buffer.alloc(32), clientAddress: '127.0.0.1', database: 'd' },
        ...{ role: 'default', sessionUser: 'app', locked: new Set<string>() },
        parameters: new Map([['search_path', '"$user", public']]),
        members: sessionMembers({ id: 's1', database: 'd', clientAddress: '127.0.0.1', identity }),
        cancelUpstream: () => settled,
      },
      {
        toUpstream: (segments) => this.upstream.push(...segments.map((one) => Buffer.from(one))),
        toClient: (segments) => this.client.push(...segments.map((one) => Buffer.from(one))),
        terminated: () => {
          this.ended = 'terminated'
        },
        failed: (error) => {
          this.ended = { error }
        },
        holdClient: () => undefined,
      },
    )
  }
}

/** A message with this type. */
export function message(type: string, body: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(body)
  const head = Buffer.alloc(5)
  head.write(type, 'latin1')
  head.writeInt32BE(4 + bytes.length, 1)
  return Buffer.concat([head, bytes])
}

/** Types of the messages, in their order. */
export function typesOf(segments: readonly Buffer[]): string {
  const frames = new FrameReader({ frameBytesMax: defaultLimits.frameBytesMax })
  frames.push(Buffer.concat(segments))
  let types = ''
  while (frames.next() === 'frame') types += String.fromCharCode(frames.type)
  return types
}
