/**
 * Two regates on one PostgreSQL store, requesters and reviewers at once, and a chaos of cancels,
 * disconnects, terminates, the same statement from two sessions, double, replayed and altered
 * callbacks, votes on own requests, requests that nobody looks at, and regates that are stopped or
 * killed and started again. What must hold is in race-check.ts.
 */
import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { createReadStream } from 'node:fs'
import { connect as connectSocket, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import { verifyAudit } from '../../src/audit/audit.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { serveFiles, writeProxyFiles, type Proxy, type ProxyFiles } from '../support/proxy.ts'
import { prove, type Ran, type Row, type Stored } from './race-check.ts'

export interface RaceOptions {
  readonly requests: number
  readonly requesters: number
  readonly reviewers: number
  /** Requests between two restarts of a regate; one is told to stop, the next is killed. */
  readonly restartEvery: number
  readonly say: (line: string) => void
}

export interface RaceReport {
  readonly sent: number
  readonly ran: number
  readonly restarts: number
  readonly kills: number
  /** SQLSTATE, or `lost` where the connection ended, of every attempt that did not run. */
  readonly refused: Readonly<Record<string, number>>
  /** By status. */
  readonly callbacks: Readonly<Record<string, number>>
  readonly states: Readonly<Record<string, number>>
  /** Records of approvals in the audit. */
  readonly records: number
  readonly gaps: Readonly<Record<string, number>>
  /** What the regates have warned of, and how often. */
  readonly warnings: Readonly<Record<string, number>>
  /** One sentence each; empty where everything holds. */
  readonly violations: readonly string[]
}

const secret = randomBytes(24).toString('hex')
const token = randomBytes(24).toString('hex')
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const chance = (share: number): boolean => Math.random() < share
const forger = 'someone'

const data = {
  regate: {
    approvals: { groups: ['dba'], quorum: 1, wait: '1500ms', ttl: '6s' },
    columns: {},
    groups: { askers: { read: ['*'], write: { '*': 'approve' }, effects: { session: 'allow' } } },
  },
}

/** Nobody looks at these: they expire. */
const isOverlooked = (text: string): boolean => text.includes("-0000'")

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

/** One regate that is started again in the same directory. */
class Instance {
  readonly files: ProxyFiles
  proxy: Proxy | null = null
  readonly warnings: Record<string, number> = {}
  #child: Awaited<ReturnType<typeof serveFiles>> | null = null

  constructor(files: ProxyFiles) {
    this.files = files
  }

  async start(): Promise<void> {
    this.#child = await serveFiles(this.files)
    this.proxy = this.#child
  }

  async stop(how: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.proxy = null
    if (how === 'SIGKILL') this.#child?.child.kill('SIGKILL')
    await this.#child?.stop()
    this.#readLog(this.#child?.log() ?? '')
    this.#child = null
  }

  #readLog(log: string): void {
    for (const line of log.split('\n')) {
      if (!line.startsWith('{"level":40')) continue
      const { msg, error = '', err } = JSON.parse(line) as Record<string, unknown>
      const why = (err as { message?: string; detail?: string } | undefined) ?? {}
      const warning = [msg, error, why.message, why.detail].filter(Boolean).join(': ')
      this.warnings[warning] = (this.warnings[warning] ?? 0) + 1
    }
  }
}

class Race {
  readonly #server: TestPostgres
  readonly #options: RaceOptions
  readonly #instances: Instance[] = []
  readonly #refused: Record<string, number> = {}
  readonly #callbacks: Record<string, number> = {}
  readonly #strict = new Set<string>()
  #left: number
  #sent = 0
  #restarts = 0
  #kills = 0
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
    for (let count = 0; count < 2; count++) this.#instances.push(new Instance(await this.#files()))
    for (const instance of this.#instances) await instance.start()
    const { requesters, reviewers } = this.#options
    const review = Promise.all(Array.from({ length: reviewers }, (_none, at) => this.#review(at)))
    await Promise.all(Array.from({ length: requesters }, (_none, at) => this.#request(at)))
    await this.#restarting
    await this.#settled()
    this.#running = false
    await review
    for (const instance of this.#instances) await instance.stop('SIGTERM')
    return await this.#report()
  }

  async stop(): Promise<void> {
    for (const instance of this.#instances) {
      await instance.stop('SIGKILL')
      await rm(instance.files.directory, { recursive: true, force: true })
    }
  }

  async #files(): Promise<ProxyFiles> {
    const names = Array.from({ length: this.#options.requesters }, (_none, at) => `r${at}`)
    const url = new URL(this.#server.url('approvals'))
    process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(url.password)
    url.password = ''
    return await writeProxyFiles(this.#server, {
      data,
      users: Object.fromEntries(names.map((name) => [name, { groups: ['askers'] }])),
      configuration: {
        approvals: {
          ...{ store: url.href, store_password_env: 'TEST_STORE_PASSWORD' },
          // Nobody is there: every message to reviewers fails and is tried again.
          webhook: { url: 'http://127.0.0.1:9/', secret_env: 'TEST_APPROVAL_SECRET' },
        },
        admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['nobody'] },
      },
    })
  }

  /** One of those that run; at least one does. */
  #proxy(): Proxy {
    const up = this.#instances.flatMap(({ proxy }) => (proxy === null ? [] : [proxy]))
    const chosen = up[Math.floor(Math.random() * up.length)]
    if (chosen === undefined) throw new Error('no proxy runs')
    return chosen
  }

  async #request(at: number): Promise<void> {
    while (this.#left > 0) {
      this.#left--
      this.#sent++
      if (this.#sent % this.#options.restartEvery === 0) this.#restart()
      if (this.#sent % 500 === 0) {
        this.#options.say(`${this.#sent} of ${this.#options.requests} requests`)
      }
      const id = chance(0.04) ? `${randomUUID()}-0000` : randomUUID()
      const who = `r${at}`
      if (chance(0.05)) await Promise.all([this.#one(who, id), this.#one(who, id)])
      else {
        this.#strict.add(id)
        await this.#one(who, id)
      }
    }
  }

  /** One statement, sent again after its wait is over, on either regate; a share is given up. */
  async #one(who: string, id: string): Promise<void> {
    const text =
      chance(0.5) || id.endsWith('-0000')
        ? { text: `INSERT INTO executed VALUES ('${id}', '${who}')` }
        : { text: 'INSERT INTO executed VALUES ($1, $2)', values: [id, who] }
    for (let attempt = 0; attempt < 3; attempt++) {
      const outcome = await this.#attempt(who, text)
      if (outcome === 'ran') return
      this.#refused[outcome] = (this.#refused[outcome] ?? 0) + 1
      if (outcome === 'unsent') continue
      if (outcome === 'lost' && chance(0.5)) {
        // It may have run or not: who sends it again takes that into account.
        this.#strict.delete(id)
      } else if (outcome !== '42501' || chance(0.1)) return
    }
  }

  /** `ran`, an SQLSTATE, `lost`, or `unsent` where no session was had. */
  async #attempt(who: string, query: pg.QueryConfig): Promise<string> {
    let client: pg.Client
    let proxy: Proxy
    try {
      proxy = this.#proxy()
      client = new pg.Client({ connectionString: proxy.url('postgres', who) })
      client.on('error', () => undefined)
      await client.connect()
    } catch {
      await pause(50)
      return 'unsent'
    }
    const over: Promise<string> = client.query(query).then(
      () => 'ran',
      (error: unknown) => (error as { code?: string }).code ?? 'lost',
    )
    if (chance(0.12)) await this.#giveUp(client, proxy, over)
    const outcome = await over
    await client.end().catch(() => undefined)
    return outcome
  }

  async #giveUp(client: pg.Client, proxy: Proxy, over: Promise<string>): Promise<void> {
    await Promise.race([over, pause(Math.random() * 300)])
    const { connection } = client as unknown as { connection: { stream: Socket } }
    const how = Math.random()
    if (how < 0.33) connection.stream.destroy()
    else if (how < 0.66) connection.stream.write(Buffer.from([0x58, 0, 0, 0, 4]))
    else cancel(client, proxy)
  }

  #restart(): void {
    if (this.#restarting !== null) return
    const instance = this.#instances[this.#restarts % 2]
    const how = this.#restarts % 4 < 2 ? 'SIGKILL' : 'SIGTERM'
    this.#restarts++
    if (how === 'SIGKILL') this.#kills++
    this.#restarting = (async () => {
      await instance?.stop(how)
      await instance?.start()
    })().finally(() => {
      this.#restarting = null
    })
  }

  /** Nothing is pending any more: what nobody waits for has expired and was swept. */
  async #settled(): Promise<void> {
    const until = Date.now() + 120_000
    while (Date.now() < until) {
      const { rows } = await execute(
        this.#server,
        "SELECT 1 FROM regate.approval_request WHERE state IN ('pending', 'approved') LIMIT 1",
        'approvals',
      )
      if (rows.length === 0) return
      await pause(500)
    }
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
      await pause(100 + Math.random() * 100)
    }
  }

  async #reviewSome(name: string): Promise<void> {
    const response = await fetch(`${this.#proxy().adminUrl}/v1/approvals?limit=60`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const { approvals } = (await response.json()) as {
      approvals?: { id: string; statement: { text: string } }[]
    }
    const list = (approvals ?? []).filter(({ statement }) => !isOverlooked(statement.text))
    for (let count = 0; count < 6 && list.length > 0; count++) {
      const [found] = list.splice(Math.floor(Math.random() * list.length), 1)
      if (found === undefined) return
      const decision = chance(0.12) ? 'reject' : 'approve'
      const body = JSON.stringify({
        ...{ approval: found.id, decision, comment: 'race' },
        by: { subject: name, groups: ['dba'] },
      })
      const nonce = randomBytes(16).toString('base64url')
      await this.#callback(body, nonce, body)
      if (chance(0.1)) await this.#callback(body, nonce, body)
      if (chance(0.1)) await this.#callback(body, randomBytes(16).toString('base64url'), body)
      if (chance(0.1)) {
        const altered = body.replace('"reject"', '"approve"').replace(name, forger)
        await this.#callback(altered, randomBytes(16).toString('base64url'), body)
      }
      if (chance(0.03)) await this.#callback(body.replace(name, forger), nonce, '', -400)
    }
  }

  async #callback(body: string, nonce: string, signed: string, lateSeconds = 0): Promise<void> {
    const timestamp = String(Math.floor(Date.now() / 1000) + lateSeconds)
    const text = `regate-callback-v1\n${timestamp}\n${nonce}\n${signed === '' ? body : signed}`
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

  async #report(): Promise<RaceReport> {
    const ran = (await execute(this.#server, 'SELECT id, who FROM executed')).rows as Ran[]
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
    const audit: Row[] = []
    const unsound: string[] = []
    for (const { files } of this.#instances) {
      const directory = join(files.directory, 'audit')
      audit.push(...(await approvalRecords(directory)))
      const { problems } = await verifyAudit(directory)
      unsound.push(...problems.map(({ message }) => `the audit is not sound: ${message}`))
    }
    const { requesters } = this.#options
    const evidence = { ran, stored, audit, strict: this.#strict, forger, kills: this.#kills }
    const { violations, gaps } = prove({ ...evidence, requesters })
    return {
      ...{ sent: this.#sent, ran: ran.length, restarts: this.#restarts, kills: this.#kills },
      ...{ refused: this.#refused, callbacks: this.#callbacks, states },
      warnings: summed(this.#instances.map(({ warnings }) => warnings)),
      ...{ records: audit.length, gaps, violations: [...violations, ...unsound] },
    }
  }
}

function summed(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const [name, count] of all.flatMap((one) => Object.entries(one))) {
    sum[name] = (sum[name] ?? 0) + count
  }
  return sum
}

/** CancelRequest, as libpq sends it on a connection of its own. */
function cancel(client: pg.Client, { port, host }: Proxy): void {
  const { processID, secretKey } = client as unknown as Record<string, number>
  const packet = Buffer.alloc(16)
  packet.writeInt32BE(16, 0)
  packet.writeInt32BE(80_877_102, 4)
  packet.writeInt32BE(processID ?? 0, 8)
  packet.writeInt32BE(secretKey ?? 0, 12)
  const socket = connectSocket(port, host)
  socket.on('error', () => undefined)
  socket.end(packet)
}

/** Records that name an approval. */
async function approvalRecords(directory: string): Promise<readonly Row[]> {
  const records: Row[] = []
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.ndjson')) continue
    const lines = createInterface({ input: createReadStream(join(directory, name)) })
    for await (const line of lines) {
      if (!line.includes('"approval":{')) continue
      records.push(JSON.parse(line) as Row)
    }
  }
  return records
}
