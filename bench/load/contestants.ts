/**
 * Who is measured: the server itself, a raw relay on Node (the floor), PgBouncer in session mode
 * (the reference of the field), and regate from dist/ under several policies. All stand before the
 * same server, are started when first asked for, and are gone when the suite ends.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startEmbeddedPostgres } from '../../src/control/embedded-postgres.ts'
import type { TestPostgres } from '../../test/support/postgres.ts'
import { serveProxy, type ProxyOptions } from '../../test/support/proxy.ts'

export type ContestantName =
  'direct' | 'relay' | 'pgbouncer' | 'regate-allow' | 'regate' | 'regate-hidden' | 'regate-masks'

export const contestantTexts: Readonly<Record<ContestantName, string>> = {
  direct: 'PostgreSQL itself',
  relay: 'raw relay on Node',
  pgbouncer: 'PgBouncer, session mode',
  'regate-allow': 'regate, a policy that allows everything',
  regate: 'regate, shipped policies',
  'regate-hidden': 'regate, shipped policies, constants hidden',
  'regate-masks': 'regate, shipped policies, one column masked',
}

export interface Contestant {
  readonly name: ContestantName
  readonly port: number
  /** Null where there is no proxy, or its CPU time cannot be read. */
  readonly pid: number | null
  /** Where its configuration is; '' where it has none. */
  readonly directory: string
}

/** The server, and everybody before it. */
export class Arena {
  readonly server: TestPostgres
  readonly #scratch: string
  readonly #started = new Map<ContestantName, Promise<Contestant | null>>()
  readonly #undo: (() => Promise<void> | void)[] = []

  private constructor(server: TestPostgres, scratch: string) {
    this.server = server
    this.#scratch = scratch
  }

  static async open(): Promise<Arena> {
    const server = await startEmbeddedPostgres({
      settings: { max_connections: 1_200, log_min_messages: 'fatal', shared_buffers: '256MB' },
    })
    const scratch = mkdtempSync(join(tmpdir(), 'regate-bench-'))
    chmodSync(scratch, 0o755)
    return new Arena(server, scratch)
  }

  async close(): Promise<void> {
    for (const undo of this.#undo.reverse()) await undo()
    await this.server.stop()
    rmSync(this.#scratch, { recursive: true, force: true })
  }

  /** Null when it cannot run here (PgBouncer is not installed). */
  async contestant(name: ContestantName): Promise<Contestant | null> {
    const known = this.#started.get(name)
    if (known !== undefined) return await known
    const starting = this.#start(name)
    this.#started.set(name, starting)
    return await starting
  }

  async #start(name: ContestantName): Promise<Contestant | null> {
    switch (name) {
      case 'direct':
        return { name, port: this.server.port, pid: null, directory: '' }
      case 'relay':
        return await this.#relay()
      case 'pgbouncer':
        return await this.#pgbouncer()
      default:
        return await this.#regate(name)
    }
  }

  async #relay(): Promise<Contestant> {
    const script = resolve('bench/load/relay.mjs')
    const child = spawn(process.execPath, [script, String(this.server.port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#kill(child)
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    return { name: 'relay', port: Number(line.toString()), pid: child.pid ?? null, directory: '' }
  }

  async #pgbouncer(): Promise<Contestant | null> {
    if (spawnSync('pgbouncer', ['--version']).status !== 0) return null
    const port = await freePort()
    const file = join(this.#scratch, 'pgbouncer.ini')
    const users = join(this.#scratch, 'users.txt')
    writeFileSync(users, `"${this.server.user}" "${this.server.password}"\n`)
    const lines = [
      '[databases]',
      `* = host=127.0.0.1 port=${this.server.port}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${port}`,
      'unix_socket_dir =',
      'auth_type = scram-sha-256',
      `auth_file = ${users}`,
      'pool_mode = session',
      'max_client_conn = 2000',
      'default_pool_size = 1100',
      'ignore_startup_parameters = extra_float_digits,search_path',
      'log_connections = 0',
      'log_disconnections = 0',
    ]
    writeFileSync(file, `${lines.join('\n')}\n`)
    // PgBouncer refuses to run as root.
    const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
    const child = spawn('pgbouncer', ['-q', ...user, file], { stdio: 'ignore' })
    this.#kill(child)
    await delay(500)
    if (child.exitCode !== null) throw new Error(`pgbouncer ended with ${child.exitCode}`)
    return { name: 'pgbouncer', port, pid: child.pid ?? null, directory: '' }
  }

  async #regate(name: ContestantName): Promise<Contestant> {
    const proxy = await serveProxy(this.server, this.#options(name))
    this.#undo.push(() => proxy.stop())
    const { port, directory } = proxy
    return { name, port, pid: proxy.child.pid ?? null, directory }
  }

  #options(name: ContestantName): ProxyOptions {
    const { user, password } = this.server
    const users = { [user]: { password, groups: ['admins'] } }
    if (name === 'regate-allow') {
      return { users, bundle: resolve('test/conformance/policies/allow') }
    }
    if (name === 'regate-hidden') return { users, bundle: this.#hidden(), data: policyData({}) }
    const mask = { class: 'pii', mask: { kind: 'redact' } }
    const columns = name === 'regate-masks' ? { 'public.wide.c5': mask } : {}
    return { users, data: policyData(columns) }
  }

  /** The shipped pack, whose decisions may not depend on constants. */
  #hidden(): string {
    const directory = join(this.#scratch, 'hidden')
    cpSync('policies', directory, { recursive: true })
    const path = join(directory, 'regate/statement/statement.rego')
    const text = readFileSync(path, 'utf8')
    const changed = text.replace('#   regate:\n', '#   regate:\n#     constants: hidden\n')
    if (changed === text) throw new Error('the shipped pack has no "regate:" in its METADATA')
    writeFileSync(path, changed)
    return directory
  }

  #kill(child: ChildProcess): void {
    this.#undo.push(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'close')
    })
  }
}

/** Everybody is an engineer who may do what the benches do, and sees what is not masked. */
export function policyData(columns: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const admins = {
    ...{ read: ['*'], write: ['*'], ddl: 'allow', unmask: [], infer: false },
    effects: { '*': 'allow' },
  }
  return { regate: { columns, groups: { admins } } }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
