/**
 * Decision logs in OPA's own format, so that what already collects OPA's decisions collects regate's:
 * batches of events, gzip, POST <url>/logs; and OPA's status API, POST <url>/status.
 * https://www.openpolicyagent.org/docs/latest/management-decision-logs/
 *
 * A sink of the audit: the shipper feeds it from the segments and sends again what was not taken. What the
 * audit does not hold (the syntax tree, parameters) is named in `erased`. Masked values never reach the
 * audit, so never this.
 */
import type { Agent } from 'undici'
import {
  deliverHalving,
  post,
  postCompressed,
  type AuditSink,
  type HttpTarget,
  type ShippedRecord,
} from '../audit/audit.ts'
import { serviceAgent, serviceHeaders, serviceUrl, type ServiceOptions } from './bundles-remote.ts'
import type { PolicyStatus } from './bundles.ts'

export interface DecisionLogOptions {
  readonly service: ServiceOptions
  readonly labels: Readonly<Record<string, string>>
  readonly bundleName: string
  readonly onError?: (error: unknown) => void
}

/** One event in OPA's format from an audit record; null where it is no decision. */
export function decisionEvent(
  { record }: Pick<ShippedRecord, 'record'>,
  options: Pick<DecisionLogOptions, 'labels' | 'bundleName'>,
): string | null {
  if (record.type !== 'statement_decided') return null
  const { statement, identity, access, database, session, decision, approval } = record
  return JSON.stringify({
    labels: options.labels,
    decision_id: decision?.decision_id,
    bundles: { [options.bundleName]: { revision: decision?.revision ?? '' } },
    path: 'regate/statement/decision',
    input: { statement, identity, access, session: { id: session, database }, approval },
    result: decision,
    requested_by: record.client_address,
    timestamp: record.time,
    metrics: { timer_rego_query_eval_ns: (decision?.duration_us ?? 0) * 1_000 },
    erased: ['/input/statement/ast', '/input/parameters', '/input/identity/claims'],
    masked: [],
  })
}

/** The sink, and OPA's status API beside it. */
export class DecisionLog implements AuditSink {
  readonly name: string
  readonly #options: DecisionLogOptions
  readonly #agent: Agent

  constructor(name: string, options: DecisionLogOptions) {
    this.name = name
    this.#options = options
    this.#agent = serviceAgent(options.service)
  }

  async deliver(records: readonly ShippedRecord[], signal: AbortSignal): Promise<void> {
    const decided = records.filter(({ record }) => record.type === 'statement_decided')
    if (decided.length === 0) return
    await deliverHalving(decided, async (some) => {
      const events = some.map((shipped) => decisionEvent(shipped, this.#options))
      await postCompressed(this.#target('logs'), `[${events.join(',')}]`, json, signal)
    })
  }

  /** Sends OPA's status document; call it whenever the keeper's status changed. */
  async status(status: PolicyStatus): Promise<void> {
    const { labels, bundleName, onError } = this.#options
    const body = JSON.stringify({ labels, bundles: { [bundleName]: status } })
    // Not compressed, as OPA sends it: its services need not take it otherwise.
    await post(this.#target('status'), body, json, AbortSignal.timeout(statusMs)).catch(
      (error: unknown) => {
        onError?.(error)
      },
    )
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  #target(path: string): HttpTarget {
    const { service } = this.#options
    return {
      url: serviceUrl(service, path),
      headers: () => serviceHeaders(service),
      dispatcher: this.#agent,
    }
  }
}

const json = { 'content-type': 'application/json' }
const statusMs = 30_000
