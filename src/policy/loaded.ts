/**
 * One loaded, immutable revision of a policy: a compiled module, its data, and what it declares.
 * Loading proves what can be proven before a statement is judged: the module compiles, every builtin
 * it calls exists, the entrypoints answer with well-formed decisions, the bundle's own smoke inputs
 * get the actions they expect, and its cost is known.
 *
 * Fails closed: an undefined or malformed answer, a trap, a full memory are each a policy_fault; after
 * a throw the instance is replaced, since its memory can no longer be trusted.
 */
import { createHash } from 'node:crypto'
import { ProxyError, type Limits } from '../core/core.ts'
import type { ConnectDecision, StatementDecision, VolatileInput } from './decision.ts'
import {
  decodeConnectDecision,
  decodeResultSet,
  decodeStatementDecision,
  volatileInputs,
} from './decode.ts'
import { dataProblems } from './data-schema.ts'
import { fingerprintOf } from './fingerprint.ts'
import {
  besideStatement,
  connectInput,
  piecesOf,
  statementInputParts,
  type ConnectFacts,
  type InputParts,
  type StatementFacts,
} from './input.ts'
import { KnownPolicies, type Cost } from './known.ts'
import type { Manifest } from './manifest.ts'
import { mergeData, withColumnNames } from './merge.ts'
import { compileModule, Engine, type PolicyModule } from './opa-wasm.ts'
import { sampleConnectInput, sampleStatementInput } from './samples.ts'
import { EvaluationThread } from './thread.ts'

export const connectEntrypoint = 'regate/connect/decision'
export const statementEntrypoint = 'regate/statement/decision'

/** What the statement entrypoint's METADATA declares under `custom.regate`. */
export interface Declarations {
  /** Volatile inputs given with every judgement. */
  readonly inputs: ReadonlySet<VolatileInput>
  /** Those of `inputs` that are given only after a decision named them in `asks`. */
  readonly onDemand: ReadonlySet<VolatileInput>
  readonly constants: 'visible' | 'hidden'
  /** `data`: masks come from nowhere but data.regate.columns. */
  readonly classification: 'data' | 'unknown'
  /** `pack`: data.regate has the shape that the shipped pack reads, and is checked for it. */
  readonly data: 'pack' | 'own'
  /**
   * `polled`: names may be looked up in a catalog as old as the last poll, so that no statement
   * waits for the DDL before it. Only where nothing is classified.
   */
  readonly catalog: 'fresh' | 'polled'
}

export interface PolicyBundle {
  readonly name: string
  readonly wasm: Uint8Array
  /** Parsed data.json of the bundle. */
  readonly data: Readonly<Record<string, unknown>>
  readonly manifest: Manifest
}

export interface PolicyOptions {
  readonly limits: Limits
  /** Merged over the bundle's data, in order (`policy.data` of the configuration). */
  readonly extraData?: readonly Readonly<Record<string, unknown>>[]
  /** What was loaded before, by whoever loads one after the other. */
  readonly known?: KnownPolicies
  /** What another process of this regate measured, which has checked the same content. */
  readonly cost?: Cost
}

type KnowingOptions = PolicyOptions & { readonly known: KnownPolicies }

/** The first mebibytes are free; an instance that a huge input has grown beyond is replaced. */
const memoryBytesKept = 64 * 1024 * 1024

/** One revision of a policy, ready to judge. */
export class Policy {
  readonly name: string
  readonly revision: string
  readonly declares: Declarations
  /** The volatile inputs of a first judgement: what is declared and not on demand. */
  readonly givenAtOnce: ReadonlySet<VolatileInput>
  readonly manifest: Manifest
  /** Data that the bundle and the configuration's data files give together. */
  readonly data: Readonly<Record<string, unknown>>
  /** Dotted columns that may be masked; 'unknown' where the policy does not say. */
  readonly classified: readonly string[] | 'unknown'
  readonly module: PolicyModule
  /** The module's bytes, for another process. */
  readonly wasm: Uint8Array
  readonly dataBytes: Uint8Array
  /** Hashes of module and data. */
  readonly #content: string
  readonly #limits: Limits
  readonly #thread: EvaluationThread
  #cost: Cost = { bytes: 1, us: 0, exponent: 1, leastUs: 0 }
  #engine: Engine
  #statementId: number

  /** Compiles, checks and self-checks; throws policy_fault saying what is wrong. */
  static async load(bundle: PolicyBundle, options: PolicyOptions): Promise<Policy> {
    const known = options.known ?? new KnownPolicies()
    try {
      return await Policy.#load(bundle, { ...options, known })
    } finally {
      if (options.known === undefined) known.close()
    }
  }

  static async #load(bundle: PolicyBundle, options: KnowingOptions): Promise<Policy> {
    const { known } = options
    const moduleHash = createHash('sha256').update(bundle.wasm).digest('hex')
    const module = known.modules.get(moduleHash) ?? (await compile(bundle.wasm))
    const policy = new Policy(bundle, options, module, moduleHash)
    const content = policy.#content
    const cost = options.cost ?? known.costs.get(content)
    if (cost === undefined) await policy.#selfCheck()
    else policy.#cost = cost
    known.modules.set(moduleHash, module)
    known.costs.set(content, policy.#cost)
    if (!known.revisions.has(policy.revision)) known.revisions.set(policy.revision, policy.#content)
    return policy
  }

  private constructor(
    bundle: PolicyBundle,
    options: KnowingOptions,
    module: PolicyModule,
    moduleHash: string,
  ) {
    this.name = bundle.name
    this.manifest = bundle.manifest
    this.module = module
    this.wasm = bundle.wasm
    this.#limits = options.limits
    this.declares = readDeclarations(bundle.manifest)
    const data = mergeData(bundle.data, ...(options.extraData ?? []))
    this.data = this.declares.classification === 'data' ? withColumnNames(data) : data
    this.dataBytes = Buffer.from(JSON.stringify(this.data))
    const dataHash = createHash('sha256').update(this.dataBytes).digest('hex')
    this.#content = `${moduleHash}-${dataHash}`
    this.revision = revisionOf(bundle, this.#content, options)
    if (this.declares.data === 'pack') checkData(this.data)
    const { inputs, onDemand } = this.declares
    this.givenAtOnce = new Set([...inputs].filter((name) => !onDemand.has(name)))
    this.classified = classifiedColumns(this.data, this.declares)
    this.#thread = new EvaluationThread({
      module,
      data: this.dataBytes,
      memoryBytesMax: options.limits.policyMemoryBytesMax,
      wallMsMax: options.limits.evaluationMsMax,
      queueCountMax: options.limits.evaluationQueueCountMax,
      queueBytesMax: 4 * options.limits.treeBytesMax,
      spare: options.known.thread,
    })
    this.#engine = this.#instantiate()
    const missing = this.#engine.missingBuiltins()
    if (missing.length > 0) {
      throw new ProxyError(
        'policy_fault',
        `the policy calls builtins that do not exist in WebAssembly: ${missing.join(', ')}`,
        { hint: '`regate policy check` names the lines; write them without these builtins' },
      )
    }
    // Both must be there.
    this.#entrypoint(connectEntrypoint)
    this.#statementId = this.#entrypoint(statementEntrypoint)
  }

  /** Whether a result of this policy can carry a mask at all. */
  get mayMask(): boolean {
    return this.classified === 'unknown' || this.classified.length > 0
  }

  /** The catalog must be read anew after DDL, before the next text is judged. */
  get needsFreshCatalog(): boolean {
    return this.mayMask || this.declares.catalog === 'fresh'
  }

  /** Judges a connection; throws policy_fault. */
  connect(facts: ConnectFacts): ConnectDecision {
    const answer = this.evaluate(connectEntrypoint, connectInput(facts))
    return decodeConnectDecision(decodeResultSet(answer, connectEntrypoint))
  }

  /**
   * Judges a statement in place; throws policy_fault. What the decision asks for and the facts hold is
   * given in further evaluations; only an estimate that is not there yet stays in `asks`.
   */
  statement(facts: StatementFacts): StatementDecision {
    return this.settle(facts, this.givenAtOnce)
  }

  /** Evaluates with `given`, and again with whatever each decision asks for. */
  settle(facts: StatementFacts, given: ReadonlySet<VolatileInput>): StatementDecision {
    let seen = given
    for (;;) {
      const decision = this.judge(facts, seen)
      const more = this.asked(decision, facts, seen)
      if (more === null) return decision
      seen = more
    }
  }

  /**
   * `seen` and what the decision asks for, null where nothing would be new: not declared, not known
   * (an estimate is not there until the server was asked), or shown already.
   */
  asked(
    decision: StatementDecision,
    facts: StatementFacts,
    seen: ReadonlySet<VolatileInput>,
  ): ReadonlySet<VolatileInput> | null {
    const { volatile } = facts
    if (decision.asks.length === 0 || volatile === null) return null
    const more = decision.asks.filter(
      (name) =>
        this.declares.onDemand.has(name) &&
        !seen.has(name) &&
        (name !== 'estimate' || volatile.estimate !== null),
    )
    return more.length === 0 ? null : new Set([...seen, ...more])
  }

  /** The statement may run only after the server's estimate was judged too. */
  wantsEstimate(decision: StatementDecision, facts: StatementFacts): boolean {
    const { inputs, onDemand } = this.declares
    if (!inputs.has('estimate') || (facts.volatile?.estimate ?? null) !== null) return false
    return onDemand.has('estimate')
      ? decision.asks.includes('estimate')
      : decision.action !== 'deny'
  }

  /** One evaluation with exactly these volatile inputs. */
  judge(facts: StatementFacts, given: ReadonlySet<VolatileInput>): StatementDecision {
    return this.decode(this.evaluate(statementEntrypoint, this.#inputParts(facts, given)))
  }

  /** The same in a thread, under the wall clock. Rejects with policy_fault. */
  async statementInThread(
    facts: StatementFacts,
    given: ReadonlySet<VolatileInput>,
  ): Promise<StatementDecision> {
    const pieces = piecesOf(this.#inputParts(facts, given))
    return this.decode(await this.#thread.evaluate(statementEntrypoint, pieces))
  }

  /** Equal for equal judgements of one statement (of the same object). */
  keyBesideStatement(facts: StatementFacts, given: ReadonlySet<VolatileInput>): string {
    return besideStatement(this.#inputParts(facts, given))
  }

  #inputParts(facts: StatementFacts, given: ReadonlySet<VolatileInput>): InputParts {
    const bytes = facts.statement.tree.length
    if (bytes > this.#limits.treeBytesMax) {
      throw new ProxyError('program_limit_exceeded', "the statement's syntax tree is too large", {
        detail: `limits.treeBytesMax is ${String(this.#limits.treeBytesMax)}`,
      })
    }
    const hidden = this.declares.constants === 'hidden'
    const shown = hidden || (facts.shape ?? null) === null ? facts : { ...facts, shape: null }
    return statementInputParts(shown, given, fingerprintOf(facts))
  }

  /** What the self-check measured. */
  get cost(): Cost {
    return this.#cost
  }

  /** Expected microseconds of judging an input of this many bytes, from what was measured at load. */
  expectedUs(bytes: number): number {
    const { us, exponent, leastUs } = this.#cost
    return Math.max(leastUs, us * (bytes / this.#cost.bytes) ** exponent)
  }

  /** Ends the thread, if there is one; the policy can still be used. */
  close(): void {
    this.#thread.close()
  }

  /** Decodes a raw answer of the statement entrypoint; throws policy_fault. */
  decode(answer: string): StatementDecision {
    return decodeStatementDecision(decodeResultSet(answer, statementEntrypoint))
  }

  /** Evaluates an entrypoint on an input given as JSON text or in parts; the result set as JSON text. */
  evaluate(entrypoint: string, input: string | InputParts): string {
    const id = entrypoint === statementEntrypoint ? this.#statementId : this.#entrypoint(entrypoint)
    try {
      const answer = this.#engine.evaluate(id, input)
      if (this.#engine.memoryBytes > memoryBytesKept) this.#engine = this.#instantiate()
      return answer
    } catch (cause) {
      this.#engine = this.#instantiate()
      throw evaluationFault(entrypoint, cause)
    }
  }

  /** A fresh instance has the same entrypoints: they are the module's. */
  #instantiate(): Engine {
    try {
      return new Engine(this.module, this.dataBytes, {
        memoryBytesMax: this.#limits.policyMemoryBytesMax,
      })
    } catch (cause) {
      throw evaluationFault('its start', cause)
    }
  }

  /** Small and large inputs tell how the cost grows with what a client can send. */
  async #measure(groups: readonly string[]): Promise<void> {
    const small = sampleStatementInput(8, groups)
    const large = sampleStatementInput(64, groups)
    const smallUs = await this.#thread.measure(statementEntrypoint, small)
    // Measured twice where it took too long: the machine may have been busy with something else. A
    // policy that cannot judge the large one in time is not refused: it is judged in the thread.
    const largeUs = await this.#thread
      .measure(statementEntrypoint, large)
      .catch(() => this.#thread.measure(statementEntrypoint, large))
      .catch(() => this.#limits.evaluationMsMax * 1_000)
    const growth = Math.log(Math.max(1, largeUs) / Math.max(1, smallUs))
    const exponent = Math.max(1, growth / Math.log(large.length / small.length))
    this.#cost = { bytes: large.length, us: largeUs, exponent, leastUs: smallUs }
  }

  #entrypoint(path: string): number {
    const id = this.#engine.entrypoints[path]
    if (id !== undefined) return id
    const known = Object.keys(this.#engine.entrypoints).join(', ')
    throw new ProxyError(
      'policy_fault',
      `the bundle has no entrypoint ${path} (it has: ${known})`,
      {
        hint: 'build it with `regate policy build`, which asks OPA for the entrypoints',
      },
    )
  }

  /** In the thread, where a policy that never ends costs only its wall clock; once in place. */
  async #selfCheck(): Promise<void> {
    try {
      const connected = await this.#thread.evaluate(connectEntrypoint, sampleConnectInput())
      decodeConnectDecision(decodeResultSet(connected, connectEntrypoint))
      this.decode(await this.#thread.evaluate(statementEntrypoint, sampleStatementInput(1)))
      for (const smoke of smokeInputs(this.data)) await this.#smoke(smoke)
      await this.#measure(sampleGroups(this.data))
    } finally {
      this.#thread.close()
    }
    this.decode(this.evaluate(statementEntrypoint, sampleStatementInput(1)))
  }

  async #smoke(smoke: Smoke): Promise<void> {
    const { entrypoint } = smoke
    const answer = await this.#thread.evaluate(entrypoint, JSON.stringify(smoke.input))
    const result = decodeResultSet(answer, entrypoint)
    const decision =
      entrypoint === connectEntrypoint
        ? decodeConnectDecision(result)
        : decodeStatementDecision(result)
    if (decision.action === smoke.action) return
    throw new ProxyError(
      'policy_fault',
      `the bundle's smoke input "${smoke.name}" expects ${smoke.action} and gets ${decision.action}`,
      { detail: `rule ${decision.rule}: ${decision.reason}` },
    )
  }
}

/** Groups that the policy knows, so that the measured evaluation is not a quick denial. */
function sampleGroups(data: Readonly<Record<string, unknown>>): readonly string[] {
  const regate = data['regate'] as { readonly groups?: object } | undefined
  return ['regate-self-check', ...Object.keys(regate?.groups ?? {}).slice(0, 3)]
}

async function compile(wasm: Uint8Array): Promise<PolicyModule> {
  try {
    return await compileModule(wasm)
  } catch (cause) {
    throw new ProxyError('policy_fault', 'policy.wasm is not a WebAssembly module', { cause })
  }
}

/** opa-wasm throws strings and plain objects; they become faults that say what happened. */
export function evaluationFault(where: string, cause: unknown): ProxyError {
  if (cause instanceof ProxyError) return cause
  const said: unknown = (cause as { message?: unknown } | null)?.message
  const message =
    typeof cause === 'string' ? cause : typeof said === 'string' ? said : 'unknown error'
  return new ProxyError('policy_fault', `the policy failed in ${where}: ${message}`, {
    hint: 'the statement is refused because it could not be judged',
    cause,
  })
}

/** The bundle's own name for it, unless other content was loaded under that name. */
function revisionOf(bundle: PolicyBundle, content: string, options: KnowingOptions): string {
  const [moduleHash = '', dataHash = ''] = content.split('-').map((hash) => hash.slice(0, 12))
  const short = `${moduleHash}-${dataHash}`
  const given = bundle.manifest.revision
  const extra = (options.extraData ?? []).length > 0
  const name = given === '' ? short : extra ? `${given}+${dataHash}` : given
  const before = options.known.revisions.get(name)
  return before === undefined || before === content ? name : `${name}~${short}`
}

function readDeclarations(manifest: Manifest): Declarations {
  const custom = manifest.annotations.get(statementEntrypoint) ?? {}
  const list = (key: string): ReadonlySet<VolatileInput> => {
    const names = custom[key] ?? []
    if (!Array.isArray(names)) throw declarationFault(`custom.regate.${key} must be a list`)
    for (const name of names as readonly unknown[]) {
      if (volatileInputs.includes(name as VolatileInput)) continue
      throw declarationFault(
        `custom.regate.${key} names ${JSON.stringify(name)}, known are ${volatileInputs.join(', ')}`,
      )
    }
    return new Set(names as readonly VolatileInput[])
  }
  const constants = custom['constants'] ?? 'visible'
  if (constants !== 'visible' && constants !== 'hidden') {
    throw declarationFault('custom.regate.constants must be visible or hidden')
  }
  const onDemand = list('on_demand')
  const classification = custom['classification'] === 'data' ? 'data' : 'unknown'
  const data = custom['data'] ?? 'own'
  if (data !== 'pack' && data !== 'own') {
    throw declarationFault('custom.regate.data must be pack or own')
  }
  const catalog = custom['catalog'] ?? 'fresh'
  if (catalog !== 'fresh' && catalog !== 'polled') {
    throw declarationFault('custom.regate.catalog must be fresh or polled')
  }
  const inputs = new Set([...list('inputs'), ...onDemand])
  return { inputs, onDemand, constants, classification, data, catalog }
}

function checkData(data: Readonly<Record<string, unknown>>): void {
  const problems = dataProblems(data)
  if (problems.length === 0) return
  const count = problems.length === 1 ? 'a mistake' : `${String(problems.length)} mistakes`
  throw new ProxyError('policy_fault', `the policy's data has ${count}: ${problems.join('; ')}`, {
    hint: 'docs/policies/README.md says what every key means; correct data.json or the files of policy.data',
  })
}

function declarationFault(message: string): ProxyError {
  return new ProxyError('policy_fault', `METADATA of ${statementEntrypoint}: ${message}`)
}

function classifiedColumns(
  data: Readonly<Record<string, unknown>>,
  declares: Declarations,
): readonly string[] | 'unknown' {
  if (declares.classification !== 'data') return 'unknown'
  const regate = data['regate'] as { readonly columns?: object } | undefined
  return Object.keys(regate?.columns ?? {})
}

interface Smoke {
  readonly name: string
  readonly entrypoint: string
  readonly input: unknown
  readonly action: string
}

/** `data.regate.smoke`: inputs with the action they must get before the bundle may be active. */
function smokeInputs(data: Readonly<Record<string, unknown>>): readonly Smoke[] {
  const regate = data['regate'] as { readonly smoke?: unknown } | undefined
  const list = regate?.smoke ?? []
  if (!Array.isArray(list)) throw new ProxyError('policy_fault', 'data.regate.smoke must be a list')
  return (list as readonly Partial<Smoke>[]).map((item, index) => ({
    name: item.name ?? String(index),
    entrypoint: item.entrypoint ?? statementEntrypoint,
    input: item.input ?? null,
    action: item.action ?? 'allow',
  }))
}
