/**
 * What both directions of a session share: the expected replies, the names the server knows, the
 * facts, the bytes to send. Owned by Session; frontend.ts and backend.ts work on it.
 */
import type { RecordMembers } from '../audit/audit.ts'
import { ProxyError } from '../core/core.ts'
import type { Admitted, JudgeContext, Refusal } from '../gate/gate.ts'
import type {
  ApprovalDocument,
  Estimate,
  SessionDocument,
  VolatileInputs,
} from '../policy/policy.ts'
import type { Catalog, OpenCursor } from '../sql/sql.ts'
import { encodeFlush, encodeNotice, written } from '../wire/wire.ts'
import { ExpectedQueue, type Expected } from './expected.ts'
import { Facts } from './facts.ts'
import type { SessionOptions, Wait } from './options.ts'
import { Outbox } from './outbox.ts'
import { ask } from './own-messages.ts'
import { Namespace, type NamedBytes, type Portal, type Prepared } from './registry.ts'
import { Judgements } from './room.ts'

export type { CatalogPort, SessionOptions, Wait } from './options.ts'

const flushFrame = written((to) => encodeFlush(to))

export type Transaction = 'idle' | 'transaction' | 'failed'

export class State {
  readonly options: SessionOptions
  /** Writes what is queued, outside a turn. */
  readonly sendNow: () => void
  readonly queue = new ExpectedQueue()
  readonly named: NamedBytes = { bytes: 0 }
  readonly judgements: Judgements
  readonly statements: Namespace<Prepared>
  readonly portals: Namespace<Portal>
  readonly facts: Facts
  readonly toClient = new Outbox()
  readonly toUpstream = new Outbox()
  transaction: Transaction = 'idle'
  transactionSinceUs = 0
  /** Statements whose origins the server has confirmed: each stands for its own context. */
  readonly checked = new WeakSet<Admitted>()
  /** The server has said FATAL: what follows is its close. */
  fatal = false
  /** Counts Syncs and Queries: messages of one segment fail together. */
  segment = 0
  /** Extended messages went upstream since the last Sync or Query. */
  segmentOpen = false
  /** Who first had something executed since then. */
  ran: 'own' | 'client' | null = null
  /** Portals that were bound since then. */
  boundCount = 0
  /** The server ignores everything up to the next Sync. */
  skipping = false
  /** The server takes CopyData. */
  copyIn = false
  /** Until the server has answered a COPY FROM STDIN: nothing more of the client is looked at. */
  copyPending: Promise<void> | null = null
  #copyAnswered: () => void = () => undefined
  /** The catalog must be read before the next text is judged. */
  catalogStale = false
  /** DDL or temporary objects of this session: the overlay must be read. */
  overlayStale = false
  overlay: Catalog | null = null
  temporaryObjects = false
  /** The shared catalog that the overlay lies over. */
  #overlayBase: Catalog | null = null
  /** A result was stopped although the statement completed: abort before ReadyForQuery. */
  abortWith: Refusal | null = null
  transactionFailed = false
  /** What reads masked columns may still speak, whatever statement answers then: see leavesTexts. */
  hidesTexts = false
  approval: ApprovalDocument | null = null
  /** The server's estimate of the statement that is judged now. */
  estimate: Estimate | null = null
  #drained: (() => void)[] = []
  readonly #contexts = {
    simple: new Map<string, JudgeContext>(),
    extended: new Map<string, JudgeContext>(),
  }
  #contextVersion = -1
  #contextCatalog: Catalog | null = null
  #contextRevision = ''

  constructor(options: SessionOptions, sendNow: () => void) {
    this.options = options
    this.sendNow = sendNow
    const { preparedCountMax, portalCountMax, judgementBytesMax } = options.limits
    this.statements = new Namespace(preparedCountMax, this.named)
    this.portals = new Namespace(portalCountMax, this.named)
    this.judgements = new Judgements(judgementBytesMax)
    this.facts = new Facts({
      sessionUser: options.sessionUser,
      parameters: options.parameters,
      prepared: (name) => this.statements.value(name)?.statement?.ast,
      cursor: (name) => this.#cursor(name),
    })
  }

  /** search_path or role was set inside the open transaction. */
  get pathTouched(): boolean {
    return this.facts.endsWithTransaction.path
  }

  set pathTouched(path: boolean) {
    this.facts.endsWithTransaction = { ...this.facts.endsWithTransaction, path }
  }

  /** DDL was done inside the open transaction. */
  get ddlDone(): boolean {
    return this.facts.endsWithTransaction.catalog
  }

  set ddlDone(catalog: boolean) {
    this.facts.endsWithTransaction = { ...this.facts.endsWithTransaction, catalog }
  }

  /** DDL of this session was done, or undone by ROLLBACK TO: what comes next is read under it. */
  catalogChanged(): void {
    this.ddlDone = true
    this.overlayStale = true
    this.facts.catalogMoves()
  }

  /** The catalog, or what this session sees of it, is older than what the server would read. */
  get catalogOutdated(): boolean {
    if (this.overlay !== null && this.#overlayBase !== this.options.catalog.current()) return true
    return this.catalogStale || this.overlayStale || this.options.catalog.outdated
  }

  /** What FETCH of this name gives, as far as it can still be known. */
  #cursor(name: string): OpenCursor | undefined {
    const portal = this.portals.value(name)
    const statement = portal?.prepared.statement?.ast
    if (portal === null || statement === undefined) return undefined
    const { facts } = this
    if (portal.committed && portal.analysis !== null) return { statement, held: portal.analysis }
    if (facts.catalogMovedSince(portal.names)) return undefined
    return { statement, ...facts.lookupAt(portal.names), held: null }
  }

  get catalog(): Catalog {
    return this.overlay ?? this.options.catalog.current()
  }

  /** The transaction state a policy may rely on. */
  get knownTransaction(): SessionDocument['transaction'] {
    if (this.queue.changesTransactionCount > 0) return 'unknown'
    return this.transaction === 'transaction' ? 'active' : this.transaction
  }

  /** Everything a judgement of the next statement can depend on. Kept while nothing changes. */
  context(
    protocol: 'simple' | 'extended',
    parameters: VolatileInputs['parameters'] = null,
  ): JudgeContext {
    const transaction = this.knownTransaction
    const catalog = this.catalog
    const revision = this.options.gate.revision
    if (this.approval !== null || this.estimate !== null || parameters !== null) {
      return this.#makeContext(protocol, transaction, catalog, revision, parameters)
    }
    if (
      this.#contextVersion !== this.facts.version ||
      this.#contextCatalog !== catalog ||
      this.#contextRevision !== revision
    ) {
      this.#contexts.simple.clear()
      this.#contexts.extended.clear()
      this.#contextVersion = this.facts.version
      this.#contextCatalog = catalog
      this.#contextRevision = revision
    }
    const kept = this.#contexts[protocol].get(transaction)
    if (kept !== undefined) return kept
    const context = this.#makeContext(protocol, transaction, catalog, revision, null)
    this.#contexts[protocol].set(transaction, context)
    return context
  }

  #makeContext(
    protocol: 'simple' | 'extended',
    transaction: SessionDocument['transaction'],
    catalog: Catalog,
    revision: string,
    parameters: VolatileInputs['parameters'],
  ): JudgeContext {
    const { identity, database, role, locked, clock, id, clientAddress } = this.options
    const session: SessionDocument = {
      database,
      role,
      application_name: this.facts.applicationName,
      transaction,
      search_path: this.facts.namedPath,
    }
    const searchPath = this.facts.searchPath
    const parts = [
      revision,
      protocol,
      identity,
      session,
      searchPath,
      this.facts.role,
      this.facts.temporarySchema,
      catalog.fingerprint,
      [...locked],
      this.facts.endsWithTransaction,
      this.approval,
    ]
    return {
      key: JSON.stringify(parts),
      protocol,
      identity,
      session,
      facts: this.facts,
      catalog,
      locked,
      approval: this.approval,
      volatile: () => ({
        parameters,
        nowMs: () => clock.nowMs(),
        sessionId: id,
        clientAddress,
        estimate: this.estimate,
      }),
    }
  }

  /** Records of this turn, in order. */
  #records: { readonly type: string; readonly members: RecordMembers }[] = []

  /** Takes a record that is appended with the others of the turn, when they are committed. */
  record(type: string, members: RecordMembers): void {
    this.#records.push({ type, members })
  }

  /** Takes a record that nothing waits for, behind those of the turn. */
  recordBehind(type: string, members: RecordMembers): void {
    if (this.#records.length > 0) this.record(type, members)
    else this.options.audit.append(type, members)
  }

  /** Gives the audit the records of the turn: to be committed before anything else happens. */
  appendRecords(): void {
    if (this.#records.length === 0) return
    for (const { type, members } of this.#records) this.options.audit.append(type, members)
    this.#records = []
  }

  /** A Sync or a Query went upstream. */
  endSegment(): void {
    this.segment++
    this.segmentOpen = false
    this.ran = null
    this.boundCount = 0
  }

  /**
   * A Sync would change nothing: no segment is open, or no more was done in it than to prepare. What regate
   * asks must end so, where it can: what is executed without begins a transaction block, in which
   * VACUUM and the like do not run.
   */
  get endsAlone(): boolean {
    if (!this.segmentOpen) return true
    return this.ran === null && this.boundCount === 0 && this.transaction === 'idle'
  }

  /** A question of regate's own may be sent: between cycles only when all before it is answered. */
  get mayAsk(): boolean {
    return this.queue.length === 0 || !this.endsAlone
  }

  /** A refusal of regate's own making. */
  fault(...details: ConstructorParameters<typeof ProxyError>): Refusal {
    return this.options.gate.refuseFault(new ProxyError(...details), this.options.newDecisionId())
  }

  /** Resolves when everything in flight is answered; asks the server to send what it holds back. */
  drain(): Wait {
    if (this.segmentOpen) this.toUpstream.add(flushFrame)
    return {
      name: 'drain',
      until: new Promise((resolve) => {
        this.#drained.push(resolve)
      }),
    }
  }

  /** Called at the end of an upstream turn. */
  settle(): void {
    if (this.queue.length > 0 || this.#drained.length === 0) return
    const waiting = this.#drained
    this.#drained = []
    for (const resolve of waiting) resolve()
  }

  /** The server is ready, and nothing is in flight. */
  settled(): void {
    this.facts.settled()
    this.judgements.rest(this.statements.value(''), this.portals)
  }

  /** COPYs FROM STDIN of the statements in flight that have not begun. */
  #copiesLeft = 0
  #copyEntry: Expected | null = null

  /** This many COPYs FROM STDIN went upstream, one after the other. */
  expectCopy(entry: Expected, count: number): void {
    this.#copyEntry = entry
    this.#copiesLeft = count
    this.#awaitCopy()
  }

  #awaitCopy(): void {
    this.copyPending = new Promise((resolve) => {
      this.#copyAnswered = resolve
    })
  }

  /** CopyInResponse; false where no COPY FROM STDIN is due. */
  copyBegins(): boolean {
    if (this.copyPending === null || this.#copiesLeft === 0) return false
    this.#copiesLeft--
    this.copyIn = true
    this.#answerCopy()
    return true
  }

  /** The client ended its data; the next COPY of the same query string may follow. */
  copyEnds(): void {
    this.copyIn = false
    if (this.#copiesLeft > 0) this.#awaitCopy()
  }

  /** The statements of this entry are over, well or not. */
  copyOver(entry: Expected | null): void {
    if (this.#copyEntry === null || this.#copyEntry !== entry) return
    this.#copyEntry = null
    this.#copiesLeft = 0
    this.copyIn = false
    this.#answerCopy()
  }

  /** It was answered: with CopyInResponse, or with anything that ends it. */
  #answerCopy(): void {
    if (this.copyPending === null) return
    this.copyPending = null
    this.#copyAnswered()
  }

  /** A message of the client is passed in pieces: nothing of ours may go between them. */
  clientMidFrame = false
  /** The same of the server's. */
  upstreamMidFrame = false
  readonly #laterNotices: Buffer[] = []

  /** The message that was passed in pieces is whole. */
  upstreamFrameEnded(): void {
    this.upstreamMidFrame = false
    for (const notice of this.#laterNotices.splice(0)) this.toClient.add(notice)
  }

  /** Gives the client a NoticeResponse of our own. */
  notify(notice: {
    readonly message: string
    readonly detail: string
    readonly hint: string
  }): void {
    const bytes = written((to) =>
      encodeNotice(to, { severity: 'NOTICE', sqlstate: '00000', ...notice }),
    )
    if (this.upstreamMidFrame) this.#laterNotices.push(bytes)
    else this.toClient.add(bytes)
  }

  /** Asks the settings that the server does not report; null answers leave them unknown. */
  probe(): Wait {
    if (!this.mayAsk) return this.drain()
    const names = ['search_path', 'role']
    if (this.facts.reading !== 'pinned')
      names.push('standard_conforming_strings', 'client_encoding')
    const request = ask(
      this,
      names.map((name) => `SHOW ${name}`),
    )
    const until = request.outcome.then((outcome) => {
      if (outcome !== 'done') return
      for (const [index, name] of names.entries()) {
        const value = request.rows[index]?.[0]
        if (value !== undefined && value !== null) this.facts.probed(name, value.toString('utf8'))
      }
      if (this.facts.reading === 'unknown') this.facts.settled()
    })
    return { name: 'probe', until }
  }

  /** Reads the catalog, or what only this session sees of it; null when nothing can be read now. */
  readCatalog(): Wait | null {
    if (this.transaction === 'failed') return null
    const shared = this.options.catalog.outdated || (this.catalogStale && !this.overlayStale)
    if (shared && (this.overlay === null || this.options.catalog.outdated)) {
      this.catalogStale = false
      return { name: 'catalog', until: this.options.catalog.refresh('DDL') }
    }
    if (this.queue.length > 0) return this.drain()
    const base = this.options.catalog.current()
    const until = this.options.catalog
      .overlay(async (texts) => {
        const request = ask(this, texts)
        this.sendNow()
        if ((await request.outcome) !== 'done') {
          const { message = 'the catalog cannot be read', ...rest } = request.error ?? {}
          throw new ProxyError('internal', message, rest)
        }
        return request.rows.map((row) => row.map((value) => value?.toString('utf8') ?? null))
      })
      .then(({ catalog, temporarySchema }) => {
        this.overlay = catalog
        this.#overlayBase = base
        this.overlayStale = false
        this.catalogStale = false
        this.facts.knowTemporarySchema(temporarySchema)
      })
    return { name: 'overlay', until }
  }
}
