/** What the tests of approvals share: a policy that asks, reviewers with OIDC-less tokens, a raw API client. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  ApprovalService,
  embeddedStore,
  type ApprovalAsk,
  type ApprovalOptions,
  type Reviewer,
  type StoreDriver,
} from '../../src/approval/approval.ts'
import type { AuditLog, RecordMembers } from '../../src/audit/audit.ts'
import { defaultLimits, systemClock } from '../../src/core/core.ts'

/** Records in memory, as `[type, members]`. */
export class MemoryAudit implements AuditLog {
  readonly records: { readonly type: string; readonly members: Record<string, unknown> }[] = []

  append(type: string, members: RecordMembers): void {
    const json = `{${members}}`
    this.records.push({ type, members: JSON.parse(json) as Record<string, unknown> })
  }

  commit(): void {
    // Nothing to make durable.
  }

  of(type: string): Record<string, unknown>[] {
    return this.records.filter((record) => record.type === type).map(({ members }) => members)
  }
}

/** A reviewer of these groups. */
export function reviewer(subject: string, ...groups: string[]): Reviewer {
  return { subject, user: null, email: null, onBehalfOf: null, groups }
}

let asked = 0

/** An ask of `ann` for one member of dba. */
export function ask(changes: Partial<ApprovalAsk> = {}): ApprovalAsk {
  asked++
  return {
    holdId: `hold-${asked}`,
    binding: `binding-${asked}`,
    shareable: true,
    identity: {
      ...{ subject: 'ann', user: 'ann', email: null, groups: ['engineers'] },
      ...{ type: 'human', on_behalf_of: null, method: 'scram', issuer: null },
    },
    ...{ database: 'shop', role: 'default', sessionId: 's1', clientAddress: '10.0.0.7' },
    ...{ revision: 'r1', text: 'DELETE FROM orders', kind: 'delete', count: 1, parameters: null },
    ...{ shape: 'DELETE FROM orders', shapeKey: 'DELETE FROM orders' },
    ...{ rule: 'test', reason: 'all rows', requirements: [{ groups: ['dba'], quorum: 1 }] },
    ...{ waitMs: 20_000, ttlMs: 60_000 },
    review: {
      ...{ statements: [], estimate: null, settings: [], transaction: {}, application_name: '' },
      ...{ search_path: ['public'], current_role: 'app', catalog: 'c1' },
    },
    auditMembers: '"session":"s1"',
    ...changes,
  }
}

export interface TestService {
  readonly service: ApprovalService
  readonly audit: MemoryAudit
}

/** A service over a store; always close() it. */
export function startService(
  driver: StoreDriver,
  options: Partial<ApprovalOptions> = {},
): TestService {
  const audit = new MemoryAudit()
  const service = new ApprovalService({
    driver,
    audit,
    clock: systemClock,
    revision: () => null,
    adapters: [],
    link: () => null,
    limits: { ...defaultLimits },
    log: () => undefined,
    ...options,
  })
  return { service, audit }
}

/** An embedded store in a directory of its own. */
export async function embeddedDirectory(): Promise<{
  readonly driver: StoreDriver
  readonly directory: string
  remove(): Promise<void>
}> {
  const parent = await mkdtemp(join(tmpdir(), 'regate-approvals-'))
  const directory = join(parent, 'store')
  return {
    driver: embeddedStore(directory),
    directory,
    remove: () => rm(parent, { recursive: true, force: true }),
  }
}

/** Waits until the condition holds; fails with `what` after a generous while. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + 60_000
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
