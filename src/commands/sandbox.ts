/**
 * The console's sandbox: a statement judged by the active policy against the live catalog, as
 * somebody, and never run. The very analysis, policy and mask plan of a session.
 *
 * Runs in a data plane, which has catalogs and the policy. Bounded: the text's size, the time that
 * the policy may take; what would need the evaluation thread goes there.
 */
import { z } from 'zod'
import { ProxyError } from '../core/core.ts'
import { planMasks } from '../masking/masking.ts'
import type { Policy, StatementDecision, StatementFacts } from '../policy/policy.ts'
import type { Access, Catalog } from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'
import { Workbench } from './policy-facts.ts'

const name = z.string().min(1).max(1_000)

/** Who asks what, where. */
export const trySchema = z.strictObject({
  sql: z.string().min(1).max(65_536),
  database: name,
  user: z.string().max(1_000).default(''),
  groups: z.array(name).max(100).default([]),
  type: z.enum(['human', 'machine']).default('human'),
  search_path: z.array(name).max(100).optional(),
})
export type TryQuestion = z.output<typeof trySchema>

export interface TryAnswer {
  readonly revision: string
  readonly statements: readonly Tried[]
}

export interface Tried {
  readonly text: string
  readonly kind: string
  readonly access: Access
  readonly decision: Omit<StatementDecision, 'masks'> & { readonly masks: object }
  /** Outputs that are masked, and the columns that are to blame. */
  readonly outputs: readonly {
    readonly index: number
    readonly mask: string
    readonly columns: readonly string[]
  }[]
  /** The masks cannot be applied: the statement would be refused. */
  readonly refused: {
    readonly reason: string
    readonly hint: string
    readonly column: string
  } | null
}

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

  /** Judges each statement of a text. Rejects with what `tryProblem` has words for. */
  async judge(question: TryQuestion, parts: TryParts): Promise<TryAnswer> {
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
    return { revision: policy.revision, statements: tried }
  }

  async close(): Promise<void> {
    const workbench = await this.#workbench
    workbench?.close()
  }
}

async function decisionOf(policy: Policy, facts: StatementFacts): Promise<StatementDecision> {
  const bytes = 2 * (facts.statement.astJson.length + facts.analysis.access.columns.length * 100)
  if (policy.expectedUs(bytes) <= inPlaceUsMax) return policy.statement(facts)
  const answer = await policy.evaluateInThread(policy.input(facts, policy.givenAtOnce))
  return policy.decode(answer)
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

/** What people are told of an error of the sandbox; null for a fault of regate's own. */
export function tryProblem(error: unknown): { error: string; hint: string | null } | null {
  if (error instanceof CommandFailure || error instanceof ProxyError) {
    return { error: error.message, hint: error.hint ?? null }
  }
  return null
}
