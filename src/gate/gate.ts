/**
 * The gate: parse → analyse → decide → plan the masks, for a whole query string at once. One
 * refusal refuses the whole string; nothing is forwarded before every statement was judged.
 *
 * Owns the cache of judged texts. A verdict is kept under everything that was visible when it was
 * made: the bytes of the text, the context (identity, session document, catalog) and the policy's
 * revision. Touches no socket, clock or file.
 */
import { ProxyError, Statistics, type Clock, type Limits } from '../core/core.ts'
import { planMasks, type MaskPlan } from '../masking/masking.ts'
import {
  EvaluationPending,
  fingerprintOf,
  type Judge,
  type Judgement,
  type ShapeFacts,
  type StatementDecision,
  type StatementFacts,
} from '../policy/policy.ts'
import {
  analyse,
  shapeOf,
  type AnalysisTools,
  type Analysis,
  type ParsedStatement,
  type ParseResult,
  type SessionFacts,
  type SqlParser,
} from '../sql/sql.ts'
import type { JudgeContext } from './context.ts'
import { deniedWhy } from './denied.ts'
import { textToEstimate } from './estimate.ts'
import { LayeredFacts } from './names.ts'
import { Late } from './late.ts'
import { statementMembers } from './record.ts'
import { checkSettings } from './settings.ts'
import { Shapes, type Like } from './shapes.ts'
import { JudgedTexts, newText, type JudgedText } from './texts.ts'
import {
  bothNeeds,
  noNeeds,
  policyFault,
  timed,
  usesNames,
  type Admitted,
  type Needs,
  type PendingText,
  type Refusal,
  type Verdict,
  type Why,
} from './verdict.ts'

export {
  noNeeds,
  usesNames,
  type Admitted,
  type Needs,
  type PendingText,
  type Refusal,
  type Verdict,
} from './verdict.ts'
export type { JudgeContext } from './context.ts'
export { runMembers, sessionMembers, endMembers, type RunEnd } from './record.ts'
export { pinnedSettings, isUtf8Name } from './settings.ts'

export interface GateOptions {
  readonly parser: SqlParser
  readonly judge: Judge
  readonly limits: Limits
  readonly clock: Clock
  /** Makes an id that no other decision of this deployment has. */
  readonly newDecisionId: () => string
  /** Literals of statements in the audit. */
  readonly literals: 'keep' | 'redact'
  /** Results are looked at even where nothing is classified: value detectors are on. */
  readonly watchesResults?: boolean
  /** A fault of regate's own while it judged a statement; the statement was refused. */
  readonly onFault: (error: unknown, text: string) => void
}

/** A query string that is judged. */
interface Asked {
  /** A view. */
  readonly text: Buffer
  /** Its bytes as a key. */
  readonly key: string
  /** `shapeOf` it; null where it has none, or is too long to look. */
  readonly shape: string | null
  /** What an earlier look at the same bytes left. */
  readonly pending: PendingText | null
}

/** Longer texts are rare, and no two of them alike. */
const shapeTextBytesMax = 16 * 1024

export class Gate {
  readonly statistics = new Statistics()
  readonly #options: GateOptions
  /** For bodies of views and functions. */
  readonly #tools: AnalysisTools
  readonly #texts: JudgedTexts
  readonly #shapes: Shapes

  constructor(options: GateOptions) {
    this.#options = options
    const { parser } = options
    this.#tools = {
      parse: (text) => {
        const parsed = parser.parse(Buffer.from(text))
        return parsed.kind === 'parsed' ? parsed.statements : null
      },
      parsePlpgsql: (text) => parser.parsePlpgsql(text),
    }
    this.#shapes = new Shapes(options.limits.decisionCacheBytesMax, options.literals)
    this.#texts = new JudgedTexts(options.limits.analysisCacheBytesMax)
  }

  /** Changes when another policy is active: verdicts of older ones are void. */
  get revision(): string {
    return this.#options.judge.policy.revision
  }

  get judge(): Judge {
    return this.#options.judge
  }

  /** Texts whose verdicts are kept. */
  get cacheCount(): number {
    return this.#texts.count
  }

  /**
   * Judges a query string; `text` is a view of exactly its bytes, without the terminator, and `pending`
   * what came with the verdict `later` on it.
   */
  judgeText(text: Buffer, context: JudgeContext, pending: PendingText | null = null): Verdict {
    const again = pending?.text.equals(text) === true
    const key = again ? pending.key : text.toString('latin1')
    const held = again ? pending.parsed : null
    const known = this.#known(key, held)
    const verdict = known?.verdicts.get(context.key)
    if (verdict !== undefined) {
      this.statistics.verdictHits++
      return verdict
    }
    const shape = text.length > shapeTextBytesMax ? null : (shapeOf(text)?.text ?? null)
    const asked: Asked = { text, key, shape, pending: again ? pending : null }
    if (known !== undefined) return this.#judgeParsed(known, asked, context)
    const shaped =
      shape === null || !this.#hidesConstants
        ? null
        : this.#shapes.verdict(shape, context.key, text)
    if (shaped !== null) {
      this.statistics.verdictHits++
      return shaped
    }
    const parsed = this.#parse(text, key, context.catalog.serverVersion)
    if (parsed.kind === 'later') return parsed
    return this.#judgeParsed(newText(key, parsed), asked, context)
  }

  /** A text that was parsed before; as `held`, where that is in hand. */
  #known(key: string, held: ParseResult | null): JudgedText | undefined {
    const known = this.#texts.get(key)
    return held === null || known?.parsed === held ? known : newText(key, held)
  }

  #parse(text: Buffer, key: string, serverVersion: number): ParseResult | Later {
    const { parser, limits, clock } = this.#options
    if (text.length > limits.statementBytesMax) {
      const message = `the statement has ${text.length} bytes, more than statementBytesMax = ${limits.statementBytesMax}`
      return {
        kind: 'failed',
        error: new ProxyError('program_limit_exceeded', message, {
          hint: 'Send the data with COPY or as parameters, or raise limits.statementBytesMax.',
        }),
      }
    }
    const startedUs = clock.monotonicUs()
    const parsed = parser.parse(text, serverVersion)
    this.statistics.parse.observe(clock.monotonicUs() - startedUs)
    if (parsed.kind !== 'later') return parsed
    const late = new Late()
    const pending: PendingText = { text: Buffer.from(text), key, parsed: null, late }
    const until = parser.parseInWorker(pending.text, serverVersion).then((result) => {
      pending.parsed = result
    })
    return { kind: 'later', wait: 'parse', until, pending }
  }

  #judgeParsed(known: JudgedText, asked: Asked, context: JudgeContext): Verdict {
    this.statistics.verdictMisses++
    const startedUs = this.#options.clock.monotonicUs()
    if (known.parsed.kind === 'failed') return this.#refuseFault(known.parsed.error, asked.text)
    let judged: Verdict
    const late = asked.pending?.late ?? new Late()
    try {
      judged = this.#judgeStatements(known.parsed.statements, context, asked, late)
    } catch (error) {
      if (!(error instanceof EvaluationPending)) throw error
      const text = asked.pending?.text ?? Buffer.from(asked.text)
      const pending = { text, key: asked.key, parsed: known.parsed, late }
      return { kind: 'later', wait: 'evaluation', until: error.until, pending }
    }
    const durationUs = Math.round(this.#options.clock.monotonicUs() - startedUs)
    const verdict = judged.kind === 'admitted' ? timed(judged, durationUs) : judged
    if (asked.shape !== null && this.#hidesConstants) {
      this.#shapes.keepVerdict(asked.shape, context.key, verdict)
    }
    this.#texts.keep(asked.text, asked.key, known, context.key, verdict)
    return verdict
  }

  get #hidesConstants(): boolean {
    return this.#options.judge.policy.declares.constants === 'hidden'
  }

  #judgeStatements(
    statements: readonly ParsedStatement[],
    context: JudgeContext,
    asked: Asked,
    late: Late,
  ): Verdict {
    const admitted: Admitted[] = []
    let asking: Admitted | null = null
    let reusable = true
    let needs = noNeeds
    const layer = statements.length > 1 ? new LayeredFacts(context.facts) : null
    for (const statement of statements) {
      const judged = this.#judgeStatement(statement, context, layer, asked, late)
      needs = bothNeeds(needs, judged.needs)
      if (judged.kind === 'refused') return { ...judged, needs }
      reusable &&= judged.reusable
      admitted.push(judged.admitted)
      if (judged.admitted.decision.action === 'approve') asking ??= judged.admitted
      // What follows in the same string is read when this has run.
      layer?.apply(judged.admitted.analysis)
    }
    if (asking !== null) return { kind: 'approval', statements: admitted, asking, needs }
    return {
      kind: 'admitted',
      statements: admitted,
      cached: false,
      durationUs: 0,
      reusable: reusable && context.approval === null,
      needs,
    }
  }

  #judgeStatement(
    statement: ParsedStatement,
    context: JudgeContext,
    layer: LayeredFacts | null,
    asked: Asked,
    late: Late,
  ):
    | {
        readonly kind: 'admitted'
        readonly admitted: Admitted
        readonly reusable: boolean
        readonly needs: Needs
      }
    | Refused {
    const { judge } = this.#options
    const shape = layer === null ? asked.shape : null
    const like = this.#like(statement, context, layer ?? context.facts, shape, late)
    if (like === null) return this.#refuseUnanalysed(statement, context)
    const { analysis } = like
    const needs: Needs = {
      session: analysis.dependsOnSession && layer?.pathMoved !== true,
      unresolved: analysis.unresolved.length > 0,
      estimate: null,
    }
    const refuse = (why: Why, decision: StatementDecision | null): Refused =>
      this.#refuse(statement, analysis, decision, why, context, needs)
    const settings = checkSettings(analysis, context.locked)
    if (settings !== null) return refuse({ rule: 'regate.pinned', ...settings }, null)
    const facts = this.#facts(statement, like, context)
    let judged: Judgement
    try {
      judged = judge.statement(facts, late.answers)
    } catch (error) {
      if (error instanceof EvaluationPending) throw error
      return refuse(policyFault(error), null)
    }
    const { decision } = judged
    // Denied as long as the server's estimate is not known: judged again when it is.
    const estimate = judged.wantsEstimate ? textToEstimate(statement, analysis) : null
    const wanted = estimate === null ? needs : { ...needs, estimate }
    this.statistics.evaluation.observe(judged.durationUs)
    if (decision.action === 'deny') {
      const admits = (other: Analysis): boolean => judge.admits({ ...facts, analysis: other })
      const why = deniedWhy(decision, analysis, asked.text, admits)
      return this.#refuse(statement, analysis, decision, why, context, wanted)
    }
    const plan: MaskPlan = planMasks(decision, analysis, statement)
    if (plan.kind === 'refuse') {
      const { reason: message, hint } = plan
      return refuse({ sqlstate: '42501', message, hint, rule: 'regate.masking' }, decision)
    }
    const admitted = this.#admitted(statement, like, plan, judged)
    return {
      kind: 'admitted',
      admitted,
      reusable: judged.reusable && !judged.wantsEstimate && !usesNames(statement, analysis),
      needs: wanted,
    }
  }

  /** What a statement is judged by. */
  #facts(statement: ParsedStatement, like: Like, context: JudgeContext): StatementFacts {
    const { policy } = this.#options.judge
    return {
      statement,
      protocol: context.protocol,
      analysis: like.analysis,
      identity: context.identity,
      session: context.session,
      approval: context.approval,
      volatile: policy.declares.inputs.size === 0 ? null : context.volatile(),
      shape: this.#shape(statement),
      fingerprint: like.fingerprint,
    }
  }

  #admitted(
    statement: ParsedStatement,
    { analysis, fingerprint }: Like,
    plan: MaskPlan,
    { decision, revision }: Judgement,
  ): Admitted {
    const { classified } = this.#options.judge.policy
    return {
      statement,
      analysis,
      decision,
      plan,
      revision,
      verify:
        classified === 'unknown' || classified.length > 0 || this.#options.watchesResults === true,
      members: statementMembers(
        {
          text: statement.text,
          statement,
          analysis,
          decision,
          plan,
          revision,
          fingerprint,
          refused: null,
        },
        this.#options.literals,
      ),
      tally: this.statistics.tally(analysis.kind, decision.action, decision.rule),
    }
  }

  /** What a bundle that declares `constants: hidden` sees in the statement's place. */
  #shape(statement: ParsedStatement): ShapeFacts | null {
    if (!this.#hidesConstants) return null
    const form = this.#options.parser.hiddenForm(Buffer.from(statement.text))
    return form === null ? null : { key: form.text, text: form.text, tree: form.tree }
  }

  /** The analysis, of a statement of the same shape where there was one; null where it failed. */
  #like(
    statement: ParsedStatement,
    context: JudgeContext,
    facts: SessionFacts,
    shape: string | null,
    late: Late,
  ): Like | null {
    const known =
      shape === null ? late.like(statement, context.key) : this.#shapes.like(shape, context.key)
    if (known !== null) return known
    const analysis = this.#analyse(statement, context, facts)
    if (analysis === null) return null
    const like = { analysis, fingerprint: fingerprintOf({ statement }) }
    if (analysis.unresolved.length > 0 || usesNames(statement, analysis)) return like
    if (shape === null) late.keepLike(statement, context.key, like)
    else this.#shapes.keepLike(shape, context.key, like)
    return like
  }

  /** Null where the analysis itself failed: that is a fault of regate, and a refusal. */
  #analyse(
    statement: ParsedStatement,
    context: JudgeContext,
    facts: SessionFacts,
  ): Analysis | null {
    const { clock } = this.#options
    const startedUs = clock.monotonicUs()
    try {
      const analysis = analyse(statement, context.catalog, facts, this.#tools)
      this.statistics.analysis.observe(clock.monotonicUs() - startedUs)
      return analysis
    } catch (error) {
      this.#options.onFault(error, statement.text)
      return null
    }
  }

  #refuseUnanalysed(statement: ParsedStatement, context: JudgeContext): Refused {
    const why: Why = {
      sqlstate: '42501',
      message: 'what the statement touches could not be found out, so it was not run',
      hint: 'This is a fault of regate: please report the statement.',
      rule: 'regate.analysis',
    }
    return this.#refuse(statement, null, null, why, context, noNeeds)
  }

  /** A statement that needs an approval where none can be had, or where the one given was void. */
  refuseApproval(asking: Admitted, given: boolean): Refusal {
    const decisionId = this.#options.newDecisionId()
    return {
      sqlstate: '42501',
      message: given
        ? 'the approval does not cover the statement as it would run now'
        : `the statement needs an approval: ${asking.decision.reason}`,
      detail: `Rule ${asking.decision.rule}, decision ${decisionId}, policy revision ${asking.revision}.`,
      hint: given
        ? 'Send the statement again to ask for a new approval.'
        : 'Approvals are not configured here, or cannot be asked for in a failed transaction.',
      position: null,
      decisionId,
    }
  }

  /** A refusal that regate gives by itself, outside a judgement: an unknown portal, a limit. */
  refuseFault(error: ProxyError, decisionId = this.#options.newDecisionId()): Refusal {
    return {
      sqlstate: error.sqlstate,
      message: error.message,
      detail: error.detail ?? null,
      hint: error.hint ?? null,
      position: error.position ?? null,
      decisionId,
    }
  }

  #refuseFault(error: ProxyError, text: Buffer): Verdict {
    const tally = this.statistics.tally('unparsed', 'deny', 'regate.parse')
    const refusal = { tally, ...this.refuseFault(error) }
    const members = this.refusalMembers(refusal, text, 'regate.parse')
    return { kind: 'refused', refusal, members, needs: noNeeds }
  }

  /** Audit members of a refusal that regate gives by itself; `text` is a view of the query string. */
  refusalMembers(refusal: Refusal, text: Buffer, rule = 'regate.session'): string {
    const found = { statement: null, analysis: null, decision: null, plan: null, fingerprint: null }
    return statementMembers(
      {
        text: text.toString('utf8'),
        ...found,
        revision: this.revision,
        refused: { refusal, rule },
      },
      this.#options.literals,
    )
  }

  #refuse(
    statement: ParsedStatement,
    analysis: Analysis | null,
    decision: StatementDecision | null,
    why: Why,
    context: JudgeContext,
    needs: Needs,
  ): Refused {
    const decisionId = this.#options.newDecisionId()
    const refusal: Refusal = {
      sqlstate: why.sqlstate,
      message: why.message,
      detail: `Rule ${why.rule}, decision ${decisionId}, policy revision ${this.revision}.`,
      hint: why.hint,
      position: why.position ?? null,
      decisionId,
      tally: this.statistics.tally(analysis?.kind ?? 'unknown', 'deny', why.rule),
    }
    const members = statementMembers(
      {
        text: statement.text,
        ...{ statement, analysis, decision, plan: null },
        ...{ revision: this.revision, fingerprint: fingerprintOf({ statement }) },
        refused: { refusal, rule: why.rule },
      },
      this.#options.literals,
    )
    return { kind: 'refused', refusal, members, needs }
  }
}

type Refused = Extract<Verdict, { kind: 'refused' }>
type Later = Extract<Verdict, { kind: 'later' }>
