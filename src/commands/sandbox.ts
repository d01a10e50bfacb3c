/**
 * The console's sandbox: a statement judged by the active policy against the live catalog, as
 * somebody, and never run. The very analysis, policy and mask plan of a session.
 *
 * Runs in a data plane, which has catalogs and the policy. Bounded: the text's size, the time that
 * the policy may take; what would need the evaluation thread goes there.
 */
import type { TryAnswer, Tried, TryQuestion } from '../control/control.ts'
import { ProxyError } from '../core/core.ts'
import { planMasks } from '../masking/masking.ts'
import type { Policy, StatementDecision, StatementFacts } from '../policy/policy.ts'
import type { Catalog } from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'
import { Workbench } from './policy-facts.ts'

export interface TryParts {
  readonly policy: Policy
  /** Rejects for a database that is not served. */
  catalog(database: string): Promise<Catalog>
}

const statementCountMax = 50
/** A module that would hold the process up for longer goes to the thread. */
const inPlaceUsMax = 5_000

/** Opened with the first question; close() it. */
export class Sandbox {
  #workbench: Promise<Workbench> | null = null

  /** Judges each statement of a text; rejects only with a fault of regate's own. */
  async judge(question: TryQuestion, parts: TryParts): Promise<TryAnswer> {
    try {
      return await this.#judge(question, parts)
    } catch (error) {
      if (!(error instanceof CommandFailure || error instanceof ProxyError)) throw error
      return { kind: 'problem', error: error.message, hint: error.hint ?? null }
    }
  }

  async #judge(question: TryQuestion, parts: TryParts): Promise<TryAnswer> {
    const { policy } = parts
    const catalog = await parts.catalog(question.database)
    this.#workbench ??= Workbench.open()
    const workbench = await this.#workbench
    const statements = await workbench.parse(question.sql)
    if (statements.length > statementCountMax) {
      const { length } = statements
      throw new CommandFailure(
        `${length} statements are too many, ${statementCountMax} is the most`,
      )
    }
    const { user, groups, type, database, search_path: searchPath } = question
    const tried: Tried[] = []
    for (const statement of statements) {
      const facts = workbench.facts(statement, catalog, {
        ...{ groups, type, database, searchPath },
        user: user === '' ? undefined : user,
      })
      tried.push(triedOf(facts, await decisionOf(policy, facts)))
    }
    return { kind: 'judged', revision: policy.revision, statements: tried }
  }

  async close(): Promise<void> {
    const workbench = await this.#workbench
    workbench?.close()
  }
}

async function decisionOf(policy: Policy, facts: StatementFacts): Promise<StatementDecision> {
  const bytes = 2 * (facts.statement.tree.length + facts.analysis.access.columns.length * 100)
  if (policy.expectedUs(bytes) <= inPlaceUsMax) return policy.statement(facts)
  return policy.statementInThread(facts, policy.givenAtOnce)
}

function triedOf(facts: StatementFacts, decision: StatementDecision): Tried {
  const { analysis, statement } = facts
  const plan = planMasks(decision, analysis, statement)
  const outputs = plan.kind === 'masked' ? plan.outputs : []
  return {
    text: statement.text,
    kind: analysis.kind,
    access: analysis.access,
    decision: { ...decision, masks: Object.fromEntries(decision.masks) },
    outputs: outputs.flatMap((output, index) =>
      output.kind === 'pass'
        ? []
        : [{ index, mask: output.mask.kind, columns: [...output.columns] }],
    ),
    refused:
      plan.kind === 'refuse' ? { reason: plan.reason, hint: plan.hint, column: plan.column } : null,
  }
}
