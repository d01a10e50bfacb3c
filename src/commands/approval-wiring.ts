/**
 * The approval service of a running regate, from its configuration: store, webhook, audit chain,
 * routes, metrics. Nothing is started before something is asked, or something is known to be open.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Agent } from 'undici'
import type { Logger } from 'pino'
import { FileAuditLog, type AuditLog, type RecordMembers } from '../audit/audit.ts'
import {
  ApprovalService,
  ed25519Signer,
  embeddedStore,
  hmacSigner,
  postgresStore,
  webhookAdapter,
  type ApprovalPort,
  type Signer,
} from '../approval/approval.ts'
import { readSecret, type Configuration } from '../config/config.ts'
import { approvalRoutes, type AdminOptions, type Metrics } from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import type { Environment } from './wiring.ts'

export interface ApprovalsOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  readonly metrics: Metrics
  /** Where the console and the admin API are; '' while nothing listens. */
  readonly url: () => string
  /** Of the policy that judges now. */
  readonly revision: () => string
}

export interface Approvals {
  readonly port: ApprovalPort
  readonly routes: NonNullable<AdminOptions['routes']>[number]
  /** Tells who waits that regate stops; what was asked stays open. */
  suspend(): Promise<void>
  close(): Promise<void>
}

const segmentBytesMax = 256 * 1024 * 1024
const segmentMsMax = 24 * 60 * 60 * 1_000
/** Answers that were given are written before the connections end. */
const suspendMs = 50

export function startApprovals(options: ApprovalsOptions): Approvals {
  const { configuration, environment, log, url } = options
  const { approvals, audit, limits } = configuration
  const directory = join(audit.directory, 'approvals')
  const embedded = approvals.store === 'embedded'
  const signer = signerOf(options)
  const records = new LaterAudit(options)
  const { webhook, storePassword } = approvals
  const service = new ApprovalService({
    driver: embedded
      ? embeddedStore(directory)
      : postgresStore({
          url: approvals.store,
          password: storePassword === null ? null : () => readSecret(storePassword, environment),
        }),
    audit: records,
    clock: systemClock,
    adapters:
      approvals.adapter !== 'webhook' || webhook === null || signer === null
        ? []
        : [
            webhookAdapter({
              ...{ url: webhook.url, format: webhook.format, signer },
              agent: new Agent({
                connectTimeout: 10_000,
                ...(webhook.ca === null
                  ? {}
                  : { connect: { ca: readFileSync(webhook.ca, 'utf8') } }),
              }),
              nowMs: () => systemClock.nowMs(),
            }),
          ],
    revision: options.revision,
    link: (id) => (url() === '' ? null : `${url()}/approvals/${id}`),
    limits,
    log: (level, facts, message) => {
      log[level](facts, message)
    },
  })
  watch(options.metrics, service)
  const known = !embedded || existsSync(directory)
  // What was open when regate stopped goes on: expiries, messages to reviewers.
  if (known) service.store.start().catch(() => undefined)
  return {
    port: service,
    routes: approvalRoutes({
      service,
      isUntouched: () => embedded && !service.store.open && !existsSync(directory),
      signer,
      log: (facts, message) => {
        log.info(facts, message)
      },
    }),
    suspend: async () => {
      service.suspend()
      await new Promise((resolve) => setTimeout(resolve, suspendMs))
    },
    close: async () => {
      await service.close()
      records.close()
    },
  }
}

/** The signer as the secrets say it now; null without a webhook. */
function signerOf({
  configuration,
  environment,
}: ApprovalsOptions): (() => Promise<Signer>) | null {
  const { webhook } = configuration.approvals
  if (webhook === null) return null
  const { secret, signingKey, callbackKey } = webhook
  if (signingKey !== null && callbackKey !== null) {
    return async () =>
      ed25519Signer(await readSecret(signingKey, environment), readFileSync(callbackKey, 'utf8'))
  }
  if (secret === null) return null
  return async () => hmacSigner(await readSecret(secret, environment))
}

function watch(metrics: Metrics, service: ApprovalService): void {
  const { counts, deliveries } = service
  const numbers: readonly [string, 'counter' | 'gauge', string, () => number][] = [
    ['regate_approvals_held', 'gauge', 'Statements that wait for people.', () => service.heldCount],
    ['regate_approvals_asked_total', 'counter', 'Statements that asked.', () => counts.asked],
    ['regate_approvals_approved_total', 'counter', 'Requests approved.', () => counts.approved],
    ['regate_approvals_rejected_total', 'counter', 'Requests rejected.', () => counts.rejected],
    ['regate_approvals_expired_total', 'counter', 'Requests expired.', () => counts.expired],
    ['regate_approvals_used_total', 'counter', 'Statements that ran approved.', () => counts.used],
    ['regate_approvals_void_total', 'counter', 'Approvals not used.', () => counts.voided],
    [
      'regate_approval_deliveries_total',
      'counter',
      'Messages to reviewers delivered.',
      () => deliveries.sentCount,
    ],
    [
      'regate_approval_delivery_failures_total',
      'counter',
      'Attempts at a message to reviewers that failed.',
      () => deliveries.failedCount,
    ],
    [
      'regate_approval_store_ok',
      'gauge',
      '1 unless the store of approvals cannot be reached.',
      () => (service.store.failure === null ? 1 : 0),
    ],
  ]
  for (const [name, kind, help, read] of numbers) metrics.watch({ name, kind, help, read })
}

/** The audit chain of this service, opened with its first record. */
class LaterAudit implements AuditLog {
  readonly #options: ApprovalsOptions
  #log: FileAuditLog | null = null

  constructor(options: ApprovalsOptions) {
    this.#options = options
  }

  append(type: string, members: RecordMembers): void {
    this.#open().append(type, members)
  }

  commit(): void | Promise<void> {
    return this.#open().commit()
  }

  close(): void {
    this.#log?.close()
  }

  #open(): FileAuditLog {
    const { directory, fsync, retainMs } = this.#options.configuration.audit
    this.#log ??= FileAuditLog.open({
      ...{ directory, fsync, retainMs, segmentBytesMax, segmentMsMax },
      worker: 'approvals',
      clock: systemClock,
      onNews: (message, error) => {
        this.#options.log.warn({ err: error }, message)
      },
    })
    return this.#log
  }
}
