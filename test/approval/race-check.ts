/**
 * The proof of the race, from three places that were written independently: a table of what the
 * server ran, the store's rows, and the audit logs.
 */

export type Row = Record<string, unknown>

/** One line of the server's own table. */
export interface Ran {
  readonly id: string
  readonly who: string
}

/** One request in the store. */
export interface Stored {
  readonly id: string
  readonly state: string
  readonly subject: string
  readonly statement: string
  readonly parameters: readonly { readonly value: string | null }[] | null
  readonly votes: readonly { readonly by: string; readonly vote: string }[]
}

export interface Evidence {
  readonly ran: readonly Ran[]
  readonly stored: readonly Stored[]
  /** Records of the audit that name an approval. */
  readonly audit: readonly Row[]
  /** Sent by nobody twice at once, nor again after an answer that was lost: may have run once only. */
  readonly strict: ReadonlySet<string>
  /** The name that altered callbacks carry: nobody's. */
  readonly forger: string
  /** Processes that were killed: what each had in its hands may miss a record that changes nothing. */
  readonly kills: number
  readonly requesters: number
}

export interface Proof {
  /** One sentence each; empty where everything holds. */
  readonly violations: readonly string[]
  /** Records that a killed process did not come to write, by their type. */
  readonly gaps: Readonly<Record<string, number>>
}

/** The texts that the requesters send: which of them an approval is for, as one string. */
const textsOf = ({ id, who }: Ran): readonly string[] => [
  `INSERT INTO executed VALUES ('${id}', '${who}')`,
  `INSERT INTO executed VALUES ($1, $2) ${id} ${who}`,
]

function keyOf({ statement, parameters }: Stored): string {
  if (parameters === null) return statement
  return `${statement} ${parameters.map(({ value }) => value).join(' ')}`
}

function grouped<Item>(items: readonly Item[], keyOfItem: (item: Item) => string) {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    const key = keyOfItem(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

/** Looks for what must never be. */
export function prove(evidence: Evidence): Proof {
  const violations: string[] = []
  const gaps: Record<string, number> = {}
  const byApproval = grouped(evidence.audit, (record) => {
    return (record['approval'] as { id?: string }).id ?? ''
  })
  const used = grouped(
    evidence.stored.filter(({ state }) => state === 'used'),
    keyOf,
  )
  for (const runs of grouped(evidence.ran, ({ id }) => id).values()) {
    violations.push(...faultsOfRuns(runs, used, byApproval, evidence))
  }
  for (const request of evidence.stored) {
    const story = byApproval.get(request.id) ?? []
    violations.push(...faultsOfVotes(request, evidence.forger))
    violations.push(...faultsOfStory(request, story))
    for (const missing of missingOf(request, story)) gaps[missing] = (gaps[missing] ?? 0) + 1
  }
  const known = new Set(evidence.stored.map(({ id }) => id))
  for (const id of byApproval.keys()) {
    if (id !== '' && !known.has(id)) violations.push(`${id} is in the audit and not in the store`)
  }
  const gapCount = Object.values(gaps).reduce((sum, count) => sum + count, 0)
  if (gapCount > evidence.kills * evidence.requesters) {
    violations.push(`the audit misses ${gapCount} records after ${evidence.kills} kills`)
  }
  return { violations, gaps }
}

/** Of one text: it ran no more often than approvals of exactly it were used, and each of those holds. */
function faultsOfRuns(
  runs: readonly Ran[],
  used: ReadonlyMap<string, readonly Stored[]>,
  byApproval: ReadonlyMap<string, readonly Row[]>,
  { strict }: Evidence,
): readonly string[] {
  const [first] = runs
  if (first === undefined) return []
  const { id, who } = first
  const faults: string[] = []
  const approvals = textsOf(first).flatMap((text) => used.get(text) ?? [])
  if (runs.length > approvals.length) {
    faults.push(`${id} ran ${runs.length} times with ${approvals.length} used approvals`)
  }
  if (strict.has(id) && runs.length > 1) faults.push(`${id} was sent once and ran twice`)
  if (runs.some((run) => run.who !== who)) faults.push(`${id} ran for two people`)
  for (const approval of approvals) {
    if (approval.subject !== who) faults.push(`${id} ran under an approval of somebody else`)
    const decided = (byApproval.get(approval.id) ?? []).filter(isRun)
    if (decided.length > 1) faults.push(`${approval.id} was run twice, says the audit`)
  }
  const told = approvals.filter(({ id: approval }) => byApproval.get(approval)?.some(isRun))
  if (told.length < runs.length) faults.push(`${id} ran, and the audit does not say so`)
  return faults
}

function faultsOfVotes({ id, state, subject, votes }: Stored, forger: string): readonly string[] {
  const faults: string[] = []
  const yes = votes.filter(({ vote }) => vote === 'approve')
  const needsYes = state === 'used' || state === 'void' || state === 'approved'
  if (needsYes && yes.length === 0) faults.push(`${id} is ${state} and nobody had approved`)
  if (state === 'used' && yes.length !== votes.length) faults.push(`${id} ran though rejected`)
  if (votes.some(({ by }) => by === subject)) faults.push(`${id} was decided by its requester`)
  if (votes.some(({ by }) => by === forger)) faults.push(`${id} took an altered callback`)
  if (new Set(votes.map(({ by }) => by)).size !== votes.length) {
    faults.push(`${id} counted one person twice`)
  }
  return faults
}

/** What the audit must say, killed or not. */
function faultsOfStory(request: Stored, story: readonly Row[]): readonly string[] {
  const { id, state } = request
  const faults: string[] = []
  const uses = story.filter(({ type }) => type === 'approval_used')
  const runs = story.filter(isRun)
  if (uses.length > 1) faults.push(`${id} was used ${uses.length} times, says the audit`)
  if (runs.length > 0 && uses.length === 0) faults.push(`${id} ran before its use was on record`)
  for (const use of uses) {
    const { votes = [] } = use['approval'] as { votes?: { by: string; vote: string }[] }
    const said = votes.map(({ by, vote }) => `${by} ${vote}`).join()
    if (said !== request.votes.map(({ by, vote }) => `${by} ${vote}`).join()) {
      faults.push(`${id}: the audit and the store name other votes`)
    }
  }
  if (!['used', 'void', 'approved', 'expired'].includes(state) && uses.length > 0) {
    faults.push(`${id} is ${state} in the store and was used, says the audit`)
  }
  return faults
}

/** The record of a statement that may go upstream; a refusal says with what in `outcome`. */
const isRun = ({ type, outcome }: Row): boolean => type === 'statement_decided' && outcome === null

/** Records of what changed nothing at the server; only a process that was killed may owe them. */
function missingOf({ state, votes }: Stored, story: readonly Row[]): readonly string[] {
  const types = new Set(story.map(({ type }) => type))
  const due = ['approval_requested']
  if (votes.length > 0) due.push('approval_decided')
  if (state === 'used') due.push('approval_used')
  if (state === 'withdrawn') due.push('approval_withdrawn')
  if (state === 'expired') due.push('approval_expired')
  if (state === 'void') due.push('approval_void')
  return due.filter((type) => !types.has(type))
}
