/**
 * One running regate: a control plane and the data planes that serve for it, started in the order
 * in which they need each other, stopped in the reverse. `serve`, `demo` and the tests start the
 * same.
 *
 * A part that cannot start ends all that was started before it. Signals, argv and the environment
 * are the caller's.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Logger } from 'pino'
import type { AuditLog } from '../audit/audit.ts'
import type { Configuration } from '../config/config.ts'
import type { PolicyStatus } from '../control/control.ts'
import { ProxyError, systemClock } from '../core/core.ts'
import type { RevocationList } from '../identity/identity.ts'
import { ControlPlane } from './control-plane.ts'
import { DataPlane } from './data-plane.ts'
import { Undo } from './undo.ts'
import { packageVersion } from './version.ts'
import { WorkerPool } from './workers-pool.ts'
import { maskKeyOf, upstreamsOf, type Environment } from './wiring.ts'

export interface RuntimeOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  /** Nothing listens: what `--check` needs. */
  readonly checkOnly?: boolean
  /** Instead of the configured audit log. */
  readonly audit?: AuditLog
}

export interface Runtime {
  /** Where clients connect. */
  readonly host: string
  readonly port: number
  readonly adminUrl: string
  /** What is not wrong but deserves a look. */
  readonly warnings: readonly string[]
  readonly policyStatus: PolicyStatus
  sessionCount(): number
  /** Who may no longer act; a change counts at once. */
  readonly revocations: RevocationList
  /** Users, certificates and policies are read again; what needs a restart is logged. */
  reload(configuration: Configuration): Promise<void>
  /** Workers are replaced one by one by new ones, with the code that is installed now. */
  roll(): Promise<void>
  /** Lets sessions finish, up to limits.drainMsMax, then stops. */
  drain(): Promise<void>
  stop(): Promise<void>
}

/** Starts everything; rejects, with nothing left running, when a part cannot start. */
export async function startRuntime(options: RuntimeOptions): Promise<Runtime> {
  const undo = new Undo()
  try {
    return await start(options, undo)
  } catch (error) {
    await undo.run()
    throw error
  }
}

async function start(options: RuntimeOptions, undo: Undo): Promise<Runtime> {
  const { configuration, environment, log, checkOnly = false } = options
  const warnings = warningsOf(configuration)
  for (const warning of warnings) log.warn(warning)
  const control = await ControlPlane.start(
    {
      ...{ configuration, environment, log, checkOnly, warnings },
      ...{ version: packageVersion(), processName: 'main' },
    },
    undo,
  )
  const workers = checkOnly || configuration.workers === 1 ? null : await makePool(options, control)
  const served: Served = workers ?? (await serveHere(options, control, undo))
  const admin = checkOnly
    ? null
    : await opened('admin', configuration.admin, () => control.listen(workers))
  if (workers !== null) undo.push(() => workers.stop())
  const address = checkOnly
    ? configuration.listen
    : await opened('listen', configuration.listen, () => served.listen())
  undo.push(() => control.suspendApprovals())
  // `--check` waits for the catalogs and wants to know what failed; who serves does not wait.
  const warming = served.warm().then(async (failed) => [...failed, ...(await control.checkNames())])
  if (!checkOnly) {
    const { host, port } = address
    const { revision } = control.policy
    log.info({ host, port, admin: admin?.url, revision }, 'listening')
  }
  const names = checkOnly ? await warming : []
  return {
    ...{ host: address.host, port: address.port, adminUrl: admin?.url ?? '' },
    warnings: [...warnings, ...names],
    get policyStatus() {
      return control.keeper.status
    },
    sessionCount: () => served.sessionCount,
    revocations: control.revocations,
    reload: async (next) => {
      await control.reload()
      for (const line of restartNeeded(configuration, next)) log.warn(line)
    },
    roll: async () => {
      if (workers !== null) await workers.roll()
      else throw new ProxyError('configuration', 'workers is 1: there is no worker to replace')
    },
    drain: async () => {
      control.health.drain()
      await control.suspendApprovals()
      await served.drain()
      await undo.run()
    },
    stop: () => undo.run(),
  }
}

/** Starts listening; what the system says against it is told with the keys that decide it. */
async function opened<T>(
  key: 'listen' | 'admin',
  { host, port }: { readonly host: string; readonly port: number },
  open: () => Promise<T>,
): Promise<T> {
  try {
    return await open()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    const said = unusable[code]
    if (said === undefined) throw error
    const where = host.includes(':') ? `[${host}]:${String(port)}` : `${host}:${String(port)}`
    throw new ProxyError('configuration', `${key}.port: ${where} ${said.what}`, {
      hint: said.hint(key),
      cause: error,
    })
  }
}

/** By the system's own names of what can be wrong with an address. */
const unusable: Readonly<
  Record<string, { readonly what: string; readonly hint: (key: string) => string }>
> = {
  EADDRINUSE: {
    what: 'is in use',
    hint: (key) => `end what listens there (another regate?), or set ${key}.port to a free port`,
  },
  EADDRNOTAVAIL: {
    what: 'is no address of this machine',
    hint: (key) => `set ${key}.host to an address of this machine, or to 0.0.0.0 for all of them`,
  },
  EACCES: {
    what: 'may not be used by this user',
    hint: (key) => `set ${key}.port to 1024 or above, or give the process the right to the port`,
  },
}

/** Who takes the clients: a data plane of this process, or the workers. */
interface Served {
  readonly sessionCount: number
  listen(): Promise<{ readonly host: string; readonly port: number }>
  /** Reads catalogs early; resolves with a sentence for each that cannot be read. */
  warm(): Promise<readonly string[]>
  drain(): Promise<void>
}

/** The one data plane of a regate without workers: in this process. */
async function serveHere(
  options: RuntimeOptions,
  control: ControlPlane,
  undo: Undo,
): Promise<DataPlane> {
  const { configuration, environment, log, checkOnly = false, audit = null } = options
  const plane = await DataPlane.start(
    {
      ...{ configuration, environment, log, checkOnly, audit, name: 'main' },
      ...{ metrics: control.metrics, alone: true },
      ...{ policy: control.policy, candidate: control.candidate, control: control.port },
      maskKey: await maskKeyOf(configuration, environment),
    },
    undo,
  )
  for (const revocation of control.revocations.list()) await plane.revocation(revocation)
  control.attach(() => [plane])
  return plane
}

/** The workers of a regate with several: each has a data plane in a process of its own. */
async function makePool(options: RuntimeOptions, control: ControlPlane): Promise<WorkerPool> {
  const { configuration, environment, log } = options
  const pool = await WorkerPool.make({
    ...{ configuration, environment, log, control },
    maskKey: await maskKeyOf(configuration, environment),
    upstreams: await upstreamsOf(configuration, environment, systemClock),
  })
  control.attach(() => pool.planes)
  return pool
}

/** Parts of the configuration that this version reads but does not act on are said, not ignored. */
function warningsOf(configuration: Configuration): readonly string[] {
  const warnings: string[] = []
  if (configuration.maskingKey === null) {
    warnings.push(
      'masking.key_env is not set: hash and noise masks change with every start, and differ between replicas',
    )
  }
  return warnings
}

/** Keys of regate.yaml that are read once. Policies' bundles and files are read again, their places not. */
const restartKeys = {
  ...{ listen: 'listen', workers: 'workers', databases: 'databases', policy: 'policy' },
  ...{ authentication: 'authentication', approvals: 'approvals', audit: 'audit', admin: 'admin' },
  ...{ maskingKey: 'the key of masking', detectors: 'masking.detectors', traces: 'traces' },
  ...{ logLevel: 'log.level', limits: 'limits' },
} satisfies Record<Exclude<keyof Configuration, 'path'>, string>

/** What of another configuration a running regate does not take over, one sentence each. */
export function restartNeeded(before: Configuration, after: Configuration): readonly string[] {
  return Object.entries(restartKeys)
    .filter(([key]) => {
      const name = key as keyof typeof restartKeys
      return !isDeepStrictEqual(before[name], after[name])
    })
    .map(([, name]) => `reload: ${name} has changed, which needs a restart`)
}
