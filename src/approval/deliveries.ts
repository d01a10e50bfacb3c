/**
 * The outbox: messages to reviewers are rows of the store before they are sent, so a restart loses
 * none, and of several replicas one sends each. A failure is kept where operators and reviewers see
 * it, and tried again with growing pauses and jitter until the request is closed.
 */
import type { Adapter, ApprovalEventKind } from './adapter.ts'
import { newId } from './ids.ts'
import { findDetail } from './requests.ts'
import type { Sql } from './store.ts'

export interface DeliveryRow {
  readonly id: string
  readonly request: string
  readonly adapter: string
  readonly event: ApprovalEventKind
  readonly state: 'pending' | 'delivered' | 'dropped'
  readonly attempts: number
  readonly lastError: string | null
  readonly next: string | null
}

export interface DeliveriesOptions {
  readonly sql: Sql
  readonly adapters: readonly Adapter[]
  readonly nowMs: () => number
  link(id: string): string | null
  /** Told after the first failure and then after every doubling. */
  onFailure(delivery: DeliveryRow, message: string): void
}

/** One attempt, whatever the other side does. */
const attemptMsMax = 15_000
const backoffMsLeast = 1_000
const backoffMsMost = 5 * 60_000
/** Attempts at a message that nobody needs any more. */
const closedAttemptsMax = 12
const errorLengthMax = 500
const parallelMax = 8

const columns = `d.id, d.request, d.adapter, d.event, d.state, d.attempts, d.last_error AS "lastError",
  CASE WHEN d.state = 'pending' THEN
    to_char(d.next AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END AS next`

export class Deliveries {
  readonly #options: DeliveriesOptions
  readonly #byName: ReadonlyMap<string, Adapter>
  readonly #stop = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | null = null
  sentCount = 0
  failedCount = 0

  constructor(options: DeliveriesOptions) {
    this.#options = options
    this.#byName = new Map(options.adapters.map((adapter) => [adapter.name, adapter]))
  }

  /** Queues a message for every adapter. */
  async queue(request: string, event: ApprovalEventKind): Promise<void> {
    for (const name of this.#byName.keys()) {
      await this.#options.sql.query(
        `INSERT INTO regate.approval_delivery (id, request, adapter, event) VALUES ($1, $2, $3, $4)`,
        [newId(this.#options.nowMs()), request, name, event],
      )
    }
    if (this.#byName.size > 0) this.wake()
  }

  async of(request: string): Promise<readonly DeliveryRow[]> {
    return await this.#options.sql.query<DeliveryRow>(
      `SELECT ${columns} FROM regate.approval_delivery d WHERE d.request = $1 ORDER BY d.id`,
      [request],
    )
  }

  /** Sends what is due, soon. */
  wake(delayMs = 0): void {
    if (this.#stop.signal.aborted || this.#byName.size === 0) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = null
      void this.#round()
    }, delayMs)
    this.#timer.unref()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    if (this.#timer !== null) clearTimeout(this.#timer)
    await Promise.allSettled(this.#running)
    for (const adapter of this.#byName.values()) await adapter.close?.()
  }

  /** Claims what is due and sends it; the claim ends by itself where this process does not. */
  async #round(): Promise<void> {
    try {
      while (this.#running.size < parallelMax && !this.#stop.signal.aborted) {
        const claimed = await this.#claim()
        if (claimed === null) break
        const sending = this.#attempt(claimed).finally(() => {
          this.#running.delete(sending)
          this.wake()
        })
        this.#running.add(sending)
      }
      const waitMs = await this.#nextDueMs()
      if (waitMs !== null && this.#timer === null) this.wake(Math.max(250, waitMs))
    } catch {
      // The store is away: the service wakes this when it is back.
    }
  }

  async #claim(): Promise<DeliveryRow | null> {
    const rows = await this.#options.sql.query<DeliveryRow>(
      `UPDATE regate.approval_delivery d
       SET attempts = d.attempts + 1,
         next = clock_timestamp() + $1::float8 * interval '1 millisecond'
       WHERE d.id = (SELECT id FROM regate.approval_delivery
         WHERE state = 'pending' AND next <= clock_timestamp()
         ORDER BY next LIMIT 1 FOR UPDATE SKIP LOCKED)
       RETURNING ${columns}`,
      [attemptMsMax * 2],
    )
    return rows[0] ?? null
  }

  async #nextDueMs(): Promise<number | null> {
    const rows = await this.#options.sql.query<{ ms: number | null }>(
      `SELECT (extract(epoch FROM min(next) - clock_timestamp()) * 1000)::float8 AS ms
       FROM regate.approval_delivery WHERE state = 'pending'`,
      [],
    )
    return rows[0]?.ms ?? null
  }

  async #attempt(delivery: DeliveryRow): Promise<void> {
    const { sql } = this.#options
    try {
      const request = await findDetail(sql, delivery.request)
      const adapter = this.#byName.get(delivery.adapter)
      const late = delivery.event === 'requested' && request?.state !== 'pending'
      if (request === null || adapter === undefined || late) {
        await this.#settle(delivery, 'dropped', null)
        return
      }
      try {
        const limit = AbortSignal.timeout(attemptMsMax)
        const signal = AbortSignal.any([limit, this.#stop.signal])
        const { event: kind, id: deliveryId } = delivery
        await adapter.send(
          { kind, deliveryId, request, link: this.#options.link(request.id) },
          signal,
        )
        this.sentCount++
        await this.#settle(delivery, 'delivered', null)
      } catch (error) {
        if (this.#stop.signal.aborted) return
        this.failedCount++
        await this.#failed(delivery, sayError(error))
      }
    } catch {
      // The store went away while we were sending: the claim ends by itself, the receiver knows the key.
    }
  }

  async #failed(delivery: DeliveryRow, message: string): Promise<void> {
    const { attempts, event } = delivery
    if (event === 'closed' && attempts >= closedAttemptsMax) {
      await this.#settle(delivery, 'dropped', message)
      return
    }
    const pause = Math.min(backoffMsMost, backoffMsLeast * 2 ** Math.min(attempts - 1, 16))
    await this.#options.sql.query(
      `UPDATE regate.approval_delivery SET last_error = $2,
         next = clock_timestamp() + $3::float8 * interval '1 millisecond'
       WHERE id = $1 AND state = 'pending'
       RETURNING pg_notify('regate_approvals', 'delivery ' || request || ' ' || attempts)::text`,
      [delivery.id, message, pause * (0.5 + Math.random() / 2)],
    )
    this.#options.onFailure(delivery, message)
  }

  async #settle(
    delivery: DeliveryRow,
    state: 'delivered' | 'dropped',
    error: string | null,
  ): Promise<void> {
    await this.#options.sql.query(
      `UPDATE regate.approval_delivery SET state = $2, last_error = coalesce($3, last_error)
       WHERE id = $1`,
      [delivery.id, state, error],
    )
  }
}

/** What went wrong, in one bounded line without control characters. */
function sayError(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const text = inner instanceof Error ? inner.message || inner.name : String(inner)
  return text.replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ').slice(0, errorLengthMax)
}
