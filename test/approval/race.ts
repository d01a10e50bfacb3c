/**
 * Two regates on one PostgreSQL store, requesters and reviewers at once, and a chaos of cancels,
 * disconnects, double and altered callbacks, votes on own requests, expiries and restarts. The proof
 * is taken from three places that were written independently: a table of what the server ran, the
 * store's rows, and the audit logs.
 */
import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

export interface RaceOptions {
  readonly requests: number
  readonly requesters: number
  readonly reviewers: number
  /** Requests between two restarts of the second regate. */
  readonly restartEvery: number
  readonly say: (line: string) => void
}

export interface RaceReport {
  readonly sent: number
  readonly ran: number
  readonly refused: Readonly<Record<string, number>>
  readonly callbacks: Readonly<Record<string, number>>
  readonly states: Readonly<Record<string, number>>
  /** One sentence each; empty where everything holds. */
  readonly violations: readonly string[]
}

const secret = randomBytes(24).toString('hex')
const token = randomBytes(24).toString('hex')
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const chance = (share: number): boolean => Math.random() < share

const data = {
  regate: {
    approvals: { groups: ['dba'], quorum: 1, wait: '1500ms', ttl: '6s' },
    columns: {},
    groups: { askers: { read: ['*'], write: { '*': 'approve' }, effects: { session: 'allow' } } },
  },
}

/** Runs the race and looks for what must never be. */
export async function runRace(options: RaceOptions): Promise<RaceReport> {
  process.env['TEST_APPROVAL_SECRET'] = secret
  process.env['TEST_APPROVAL_TOKEN'] = token
  const server = await startPostgres({ settings: { log_statement: 'none' } })
  const race = new Race(server, options)
  try {
    return await race.run()
  } finally {
    await race.stop()
    await server.stop()
  }
}

type Row = Record<string, unknown>

class Race {
  readonly #server: TestPostgres
  readonly #options: RaceOptions
  readonly #proxies: ProxyInProcess[] = []
  readonly #audit: Row[] = []
  readonly #refused: Record<string, number> = {}
  readonly #callbacks: Record<string, number> = {}
  #left: number
  #sent = 0
  #running = true
  #restarting: Promise<void> | null = null

  constructor(server: TestPostgres, options: RaceOptions) {
    this.#server = server
    this.#options = options
    this.#left = options.requests
  }

  async run(): Promise<RaceReport> {
    await execute(this.#server, 'CREATE TABLE executed (id text, who text)')
    await execute(this.#server, 'CREATE DATABASE approvals')
    this.#proxies.push(await this.#start(), await this.#start())
    const { requesters, reviewers } = this.#options
    const review = Promise.all(Array.from({ length: reviewers }, (_none, at) => this.#review(at)))
    await Promise.all(Array.from({ length: requesters }, (_none, at) => this.#request(at)))
    this.#running = false
    await review
    await this.#restarting
    for (const proxy of this.#proxies) await this.#readAudit(proxy)
    return await this.#report()
  }

  async stop(): Promise<void> {
    for (const proxy of this.#proxies) await proxy.stop()
  }

  async #start(): Promise<ProxyInProcess> {
    const names = Array.from({ length: this.#options.requesters }, (_none, at) => `r${at}`)
    const url = new URL(this.#server.url('approvals'))
    process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(url.password)
    url.password = ''
    return await startProxy(this.#server, {
      data,
      users: Object.fromEntries(names.map((name) => [name, { groups: ['askers'] }])),
      configuration: {
        approvals: {
          ...{ store: url.href, store_password_env: 'TEST_STORE_PASSWORD' },
          webhook: { url: 'http://127.0.0.1:9/', secret_env: 'TEST_APPROVAL_SECRET' },
        },
        admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['nobody'] },
      },
    })
  }

  #proxy(): ProxyInProcess {
    const chosen = this.#proxies[chance(0.5) ? 1 : 0] ?? this.#proxies[0]
    if (chosen === undefined) throw new Error('no proxy runs')
    return chosen
  }

  async #request(at: number): Promise<void> {
    while (this.#left > 0) {
      this.#left--
      this.#sent++
      if (this.#sent % this.#options.restartEvery === 0) this.#restart()
      if (this.#sent % 500 === 0) this.#options.say(`${this.#sent} requests`)
      await this.#one(`r${at}`, randomUUID())
    }
  }

  /** One statement, sent again after its wait is over, on either regate; a share is given up. */
  async #one(who: string, id: string): Promise<void> {
    const simple = chance(0.5)
    for (let attempt = 0; attempt < 3; attempt++) {
      const client = new pg.Client({ connectionString: this.#proxy().url('postgres', who) })
      client.on('error', () => undefined)
      try {
        await client.connect()
        const run = simple
          ? client.query(`INSERT INTO executed VALUES ('${id}', '${who}')`)
          : client.query('INSERT INTO executed VALUES ($1, $2)', [id, who])
        run.catch(() => undefined)
        const over = run.then(
          () => 'ran',
          (error: unknown) => (error as { code?: string }).code ?? 'lost',
        )
        if (chance(0.1)) await this.#giveUp(client, over)
        const outcome = await over
        if (outcome === 'ran') return
        this.#refused[outcome] = (this.#refused[outcome] ?? 0) + 1
        if (outcome === '57014' || chance(0.1)) return
      } catch {
        // The regate that was asked is being restarted.
        await pause(50)
      } finally {
        await client.end().catch(() => undefined)
      }
    }
  }

  async #giveUp(client: pg.Client, over: Promise<string>): Promise<void> {
    await Promise.race([over, pause(Math.random() * 300)])
    const { connection } = client as unknown as { connection: { stream: NodeJS.WritableStream } }
    if (chance(0.5)) (connection.stream as unknown as { destroy(): void }).destroy()
    else connection.stream.write(Buffer.from([0x58, 0, 0, 0, 4]))
  }

  #restart(): void {
    if (this.#restarting !== null) return
    this.#restarting = (async () => {
      const old = this.#proxies.pop()
      if (old === undefined) return
      await old.runtime.stop()
      await this.#readAudit(old)
      await old.stop()
      this.#proxies.push(await this.#start())
    })().finally(() => {
      this.#restarting = null
    })
  }

  async #review(at: number): Promise<void> {
    // Some reviewers are requesters too: what they ask for themselves must be refused.
    const name = at % 3 === 0 ? `r${at}` : `reviewer${at}`
    while (this.#running) {
      try {
        await this.#reviewSome(name)
      } catch {
        // The regate that was asked is being restarted.
      }
      await pause(20 + Math.random() * 60)
    }
  }

  async #reviewSome(name: string): Promise<void> {
    const response = await fetch(`${this.#proxy().adminUrl}/v1/approvals?limit=60`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const { approvals } = (await response.json()) as {
      approvals?: { id: string; identity: { subject: string } }[]
    }
    const list = approvals ?? []
    for (let count = 0; count < 3 && list.length > 0; count++) {
      const found = list[Math.floor(Math.random() * list.length)]
      if (found === undefined) return
      const decision = chance(0.12) ? 'reject' : 'approve'
      const body = JSON.stringify({
        ...{ approval: found.id, decision, comment: 'race' },
        by: { subject: name, groups: ['dba'] },
      })
      const nonce = randomBytes(16).toString('base64url')
      await this.#callback(body, nonce, body)
      if (chance(0.2)) await this.#callback(body, nonce, body)
      if (chance(0.2)) await this.#callback(body, randomBytes(16).toString('base64url'), body)
      if (chance(0.1)) {
        const altered = body.replace('"reject"', '"approve"').replace(name, 'someone')
        await this.#callback(altered, nonce, body)
      }
    }
  }

  async #callback(body: string, nonce: string, signed: string): Promise<void> {
    const timestamp = String(Math.floor(Date.now() / 1000))
    const text = `regate-callback-v1\n${timestamp}\n${nonce}\n${signed}`
    const signature = createHmac('sha256', secret).update(text).digest('hex')
    const { status } = await fetch(`${this.#proxy().adminUrl}/v1/approvals/callback`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'regate-timestamp': timestamp,
        'regate-nonce': nonce,
        'regate-signature': `v1=${signature}`,
      },
      body,
    })
    this.#callbacks[status] = (this.#callbacks[status] ?? 0) + 1
  }

  async #readAudit(proxy: ProxyInProcess): Promise<void> {
    const directory = join(proxy.directory, 'audit')
    for (const name of await readdir(directory)) {
      if (!name.endsWith('.ndjson')) continue
      const text = await readFile(join(directory, name), 'utf8')
      for (const line of text.split('\n')) {
        if (line === '') continue
        const record = JSON.parse(line) as Row
        if (record['approval'] !== undefined && record['approval'] !== null) {
          this.#audit.push(record)
        }
      }
    }
  }

  async #report(): Promise<RaceReport> {
    const ran = (await execute(this.#server, 'SELECT id, who FROM executed')).rows as {
      id: string
      who: string
    }[]
    const stored = (
      await execute(
        this.#server,
        `SELECT id, state, subject, statement, review->'parameters' AS parameters, votes
         FROM regate.approval_request`,
        'approvals',
      )
    ).rows as Stored[]
    const states: Record<string, number> = {}
    for (const { state } of stored) states[state] = (states[state] ?? 0) + 1
    return {
      ...{ sent: this.#sent, ran: ran.length, refused: this.#refused },
      ...{ callbacks: this.#callbacks, states },
      violations: violationsOf(ran, stored, this.#audit),
    }
  }
}

interface Stored {
  readonly id: string
  readonly state: string
  readonly subject: string
  readonly statement: string
  readonly parameters: { readonly value: string | null }[] | null
  readonly votes: { readonly by: string; readonly vote: string }[]
}

/** What is wrong with a used approval of a statement that ran; `story`: its records in the audit. */
function faultsOf(
  approval: Stored,
  id: string,
  who: string,
  story: readonly string[],
): readonly string[] {
  const faults: string[] = []
  if (approval.subject !== who) faults.push(`${id} ran under an approval of somebody else`)
  const yes = approval.votes.filter(({ vote }) => vote === 'approve')
  if (yes.length === 0) faults.push(`${id} ran and nobody had approved`)
  if (yes.some(({ by }) => by === who)) faults.push(`${id} was approved by its requester`)
  for (const type of ['approval_requested', 'approval_decided', 'approval_used']) {
    if (!story.includes(type)) faults.push(`${approval.id}: the audit has no ${type}`)
  }
  if (story.filter((type) => type === 'approval_used').length !== 1) {
    faults.push(`${approval.id}: used ${story.length} times in the audit`)
  }
  return faults
}

function violationsOf(
  ran: readonly { id: string; who: string }[],
  stored: readonly Stored[],
  audit: readonly Row[],
): string[] {
  const violations: string[] = []
  const used = new Map<string, Stored[]>()
  for (const request of stored.filter(({ state }) => state === 'used')) {
    const key =
      request.parameters === null
        ? request.statement
        : `${request.statement} ${request.parameters.map(({ value }) => value).join(' ')}`
    used.set(key, [...(used.get(key) ?? []), request])
  }
  const byApproval = new Map<string, string[]>()
  for (const record of audit) {
    const { id = '' } = record['approval'] as { id?: string }
    byApproval.set(id, [...(byApproval.get(id) ?? []), String(record['type'])])
  }
  const runCounts = new Map<string, number>()
  for (const { id } of ran) runCounts.set(id, (runCounts.get(id) ?? 0) + 1)
  for (const { id, who } of ran) {
    const approvals = [
      ...(used.get(`INSERT INTO executed VALUES ('${id}', '${who}')`) ?? []),
      ...(used.get(`INSERT INTO executed VALUES ($1, $2) ${id} ${who}`) ?? []),
    ]
    // Who cancels or leaves once the approval was taken runs nothing with it, or never learns that it
    // ran and asks again: there may be more used ones than runs, never fewer, and each must hold.
    const runCount = runCounts.get(id) ?? 0
    if (runCount > approvals.length) {
      violations.push(`${id} ran ${runCount} times with ${approvals.length} used approvals`)
    }
    for (const approval of approvals) {
      violations.push(...faultsOf(approval, id, who, byApproval.get(approval.id) ?? []))
    }
  }
  return violations
}
