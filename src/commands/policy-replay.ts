/**
 * `regate policy replay`: judges recorded statements under another bundle and prints what would
 * change. A person who reviews a policy sees its effect on real traffic before anybody feels it.
 *
 * The audit holds each statement's text and who ran it; names are resolved again against a catalog
 * snapshot, and what a session prepared, declared and set is followed. Records that no policy decided
 * (a syntax error, a pinned setting) and those without text are counted, not judged.
 */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import Table from 'cli-table3'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { planMasks } from '../masking/masking.ts'
import type { Policy } from '../policy/policy.ts'
import type { Analysis, Catalog } from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'
import {
  builtInCatalog,
  deskCatalog,
  deskConfiguration,
  deskPolicy,
  withCatalog,
  withData,
  type CatalogArguments,
  type PolicyArguments,
} from './policy-desk.ts'
import { Workbench, type SessionState } from './policy-facts.ts'
import { withOpa } from './policy-opa.ts'

interface ReplayArguments extends PolicyArguments, CatalogArguments {
  audit: string
  bundle: string | undefined
  json: boolean
  'allow-wider': boolean
  limit: number
}

function builder(yargs: Argv): Argv<ReplayArguments> {
  return withOpa(withData(withCatalog(yargs)))
    .positional('audit', {
      type: 'string',
      demandOption: true,
      describe: 'an audit file, or a directory of them',
    })
    .option('bundle', {
      type: 'string',
      alias: 'b',
      describe: "the candidate: a bundle or a policy directory; default the configuration's policy",
    })
    .option('database', { type: 'string', alias: 'd', describe: 'replay only this database' })
    .option('json', { type: 'boolean', default: false, describe: 'as JSON, for a pull request' })
    .option('allow-wider', {
      type: 'boolean',
      default: false,
      describe: 'exit 0 even where something that was denied would be allowed',
    })
    .option('limit', { type: 'number', default: 100, describe: 'rows of the table; 0 for all' })
    .example(
      '$0 policy replay regate-data/audit --bundle new.tar.gz -c shop.catalog.json',
      'what would change',
    )
    .example(
      '$0 policy replay audit.ndjson -b policies -d shop --json',
      'with the catalog of regate.yaml',
    )
}

export const policyReplayCommand = {
  command: 'replay <audit>',
  describe: 'Judge recorded statements under another bundle',
  builder,
  handler: async (args: ArgumentsCamelCase<ReplayArguments>): Promise<void> => {
    const named = args.catalog !== undefined || args.url !== undefined
    // Beside a catalog that is named, `--database` only says which records count.
    const { config, database } = args
    const wanted = named ? { config, database: undefined } : { config, database }
    const configuration = await deskConfiguration(wanted, args.bundle !== undefined && named)
    const policy = await deskPolicy(args.bundle, args, configuration)
    const report = await replay(
      await auditFiles(args.audit),
      policy,
      (await deskCatalog(args, configuration)) ?? builtInCatalog(),
      database,
    )
    process.stdout.write(
      args.json ? `${JSON.stringify(report, null, 2)}\n` : inWords(report, args.limit),
    )
    if (report.wider > 0 && !args['allow-wider']) {
      throw new CommandFailure(
        `${String(report.wider)} recorded statements that were denied, held or masked would get more`,
        { hint: 'if that is meant, say so with --allow-wider' },
      )
    }
  },
}

async function auditFiles(path: string): Promise<readonly string[]> {
  const found = await stat(path).catch(() => null)
  if (found === null) throw new CommandFailure(`${path} is not there`, { misuse: true })
  if (!found.isDirectory()) return [path]
  const names = (await readdir(path)).filter((name) => name.endsWith('.ndjson')).sort()
  if (names.length === 0) throw new CommandFailure(`${path} holds no .ndjson files`)
  return names.map((name) => join(path, name))
}

/** What a client got or would get. */
interface Outcome {
  readonly action: 'allow' | 'mask' | 'approve' | 'deny'
  readonly rule: string
  readonly masked: readonly string[]
}

interface Change {
  readonly statement: string
  readonly user: string
  readonly groups: readonly string[]
  readonly database: string
  readonly before: Outcome
  readonly after: Outcome & { readonly reason: string }
  readonly wider: boolean
  count: number
}

interface Report {
  readonly revision: string
  readonly judged: number
  readonly unchanged: number
  /** Without text or constants, not decided by a policy, or not parsable. */
  readonly skipped: number
  readonly changed: number
  readonly wider: number
  readonly changes: readonly Change[]
}

/** The members of `statement_decided` that replay reads. */
interface Decided {
  readonly type?: string
  readonly session?: string
  readonly database?: string
  readonly identity?: { readonly user?: string; readonly groups?: readonly string[] }
  readonly statement?: { readonly text?: string; readonly redacted?: boolean }
  readonly decision?: { readonly action?: string; readonly rule?: string }
  readonly access?: { readonly masked_columns?: readonly string[] }
}

/** Rules of regate itself: no bundle changes what they say. */
const ownRules = new Set(['regate.parse', 'regate.session', 'regate.pinned', 'regate.policy_fault'])

/** Re-judges every record of the files, in their order. */
export async function replay(
  files: readonly string[],
  policy: Policy,
  catalog: Catalog,
  database: string | undefined,
): Promise<Report> {
  const workbench = await Workbench.open()
  const sessions = new Map<string, SessionState>()
  const changes = new Map<string, Change>()
  const counts = { judged: 0, skipped: 0, changed: 0, wider: 0 }
  const judge = async (record: Decided): Promise<void> => {
    const text = record.statement?.text ?? ''
    const before = recorded(record)
    if (text === '' || record.statement?.redacted === true || before === null) {
      counts.skipped++
      return
    }
    const state = sessionOf(sessions, record.session ?? '')
    const after = await judgeText(workbench, policy, catalog, record, text, state)
    if (after === null) {
      counts.skipped++
      return
    }
    counts.judged++
    if (before.action === after.action && sameColumns(before.masked, after.masked)) return
    counts.changed++
    const wider = isMore(before, after)
    if (wider) counts.wider++
    const groups = record.identity?.groups ?? []
    const user = record.identity?.user ?? ''
    const key = JSON.stringify([text, user, groups, before, after.action, after.rule, after.masked])
    const known = changes.get(key)
    if (known !== undefined) known.count++
    else
      changes.set(key, {
        statement: text,
        user,
        groups,
        database: record.database ?? '',
        before,
        after,
        wider,
        count: 1,
      })
  }
  try {
    for (const file of files) {
      for await (const line of createInterface({ input: createReadStream(file) })) {
        if (!line.includes('"statement_decided"')) continue
        const record = parseRecord(line)
        if (record?.type !== 'statement_decided') continue
        if (database === undefined || record.database === database) await judge(record)
      }
    }
  } finally {
    workbench.close()
  }
  const { judged, changed } = counts
  const list = [...changes.values()].sort(
    (a, b) => Number(b.wider) - Number(a.wider) || b.count - a.count,
  )
  return { revision: policy.revision, ...counts, unchanged: judged - changed, changes: list }
}

/** A last line that was cut off by a crash is no reason to stop. */
function parseRecord(line: string): Decided | null {
  try {
    return JSON.parse(line) as Decided
  } catch {
    return null
  }
}

function recorded(record: Decided): Outcome | null {
  const { action = '', rule = '' } = record.decision ?? {}
  if (ownRules.has(rule)) return null
  const masked = record.access?.masked_columns ?? []
  if (action === 'deny' || action === 'approve') return { action, rule, masked: [] }
  return { action: masked.length > 0 ? 'mask' : 'allow', rule, masked }
}

async function judgeText(
  workbench: Workbench,
  policy: Policy,
  catalog: Catalog,
  record: Decided,
  text: string,
  state: SessionState,
): Promise<Change['after'] | null> {
  const statements = await workbench.parse(text).catch(() => [])
  const [statement] = statements
  if (statement === undefined || statements.length > 1) return null
  const facts = workbench.facts(
    statement,
    catalog,
    {
      user: record.identity?.user,
      groups: record.identity?.groups ?? [],
      database: record.database,
      searchPath: state.searchPath,
    },
    state,
  )
  remember(state, facts.analysis)
  const decision = policy.statement(facts)
  const { reason, rule } = decision
  if (decision.action === 'deny' && decision.asks.length === 0)
    return { action: 'deny', rule, reason, masked: [] }
  if (decision.action === 'approve') return { action: 'approve', rule, reason, masked: [] }
  const plan = planMasks(decision, facts.analysis, statement)
  if (plan.kind === 'refuse') {
    return { action: 'deny', rule: 'regate.masking', reason: plan.reason, masked: [] }
  }
  const columns =
    plan.kind === 'masked'
      ? plan.outputs.flatMap((output) => (output.kind === 'pass' ? [] : output.columns))
      : []
  const masked = [...new Set(columns)].sort()
  return { action: masked.length > 0 ? 'mask' : 'allow', rule, reason, masked }
}

function sessionOf(sessions: Map<string, SessionState>, id: string): SessionState {
  const known = sessions.get(id)
  if (known !== undefined) return known
  const state: SessionState = { searchPath: undefined, prepared: new Map(), cursors: new Map() }
  sessions.set(id, state)
  return state
}

/** What later statements of the session will refer to. */
function remember(state: SessionState, analysis: Analysis): void {
  for (const effect of analysis.sessionEffects) {
    if (effect.kind === 'prepare') state.prepared.set(effect.name, effect.statement)
    else if (effect.kind === 'declare') {
      // What it was when it was declared, whatever happened since.
      const { statement, analysis } = effect
      state.cursors.set(effect.name, { statement, held: analysis })
    } else if (effect.kind === 'set' && effect.name === 'search_path') {
      state.searchPath = effect.value?.split(',').map((name) => name.trim().replaceAll('"', ''))
    } else if (effect.kind === 'reset' && (effect.name === null || effect.name === 'search_path')) {
      state.searchPath = undefined
    }
  }
}

const openness = { deny: 0, approve: 1, mask: 2, allow: 3 } as const

/** The client would get more: a stronger action, or a column unmasked. */
function isMore(before: Outcome, after: Outcome): boolean {
  if (openness[after.action] > openness[before.action]) return true
  const passes = before.action === 'mask' && after.action === 'mask'
  return passes && before.masked.some((column) => !after.masked.includes(column))
}

const sameColumns = (first: readonly string[], second: readonly string[]): boolean =>
  [...first].sort().join('\n') === [...second].sort().join('\n')

function inWords(report: Report, limit: number): string {
  const { judged, changed, wider, skipped, revision } = report
  const head =
    `${String(judged)} statements judged under ${revision}: ${String(changed)} would change, ` +
    `${String(wider)} of them would get more${skipped === 0 ? '' : `; ${String(skipped)} could not be judged`}\n`
  if (report.changes.length === 0) return head
  const table = new Table({
    head: ['n', 'who', 'before', 'after', 'statement'],
    wordWrap: true,
    colWidths: [6, 18, 26, 44, 46],
    style: { head: [], border: [] },
  })
  const shown = limit === 0 ? report.changes : report.changes.slice(0, limit)
  const words = (outcome: Outcome): string =>
    outcome.masked.length === 0
      ? `${outcome.action} ${outcome.rule}`
      : `mask ${outcome.masked.join(', ')}`
  for (const change of shown) {
    const who = `${change.user} (${change.groups.join(', ')})`
    const after = `${change.wider ? '! ' : ''}${words(change.after)} ${change.after.reason}`
    const statement = change.statement.replaceAll(/\s+/g, ' ').slice(0, 300)
    table.push([change.count, who, words(change.before), after, statement])
  }
  const more = report.changes.length - shown.length
  return `${head}${table.toString()}\n${more > 0 ? `… and ${String(more)} more (--limit 0)\n` : ''}`
}
