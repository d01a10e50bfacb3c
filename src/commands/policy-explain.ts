/**
 * `regate policy explain`: what a statement touches, where each output comes from, what the policy
 * says and what would be masked, for people.
 */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { planMasks, type MaskPlan, type OutputMask } from '../masking/masking.ts'
import type { StatementDecision, StatementFacts } from '../policy/policy.ts'
import type { Access, OutputSource } from '../sql/sql.ts'
import { deskConfiguration, deskPolicy, withData, type PolicyArguments } from './policy-desk.ts'
import { withOpa } from './policy-opa.ts'
import { statementFacts, withStatement, type StatementArguments } from './policy-statements.ts'

interface ExplainArguments extends StatementArguments, PolicyArguments {
  policy: string | undefined
  json: boolean
}

export const policyExplainCommand = {
  command: 'explain <sql>',
  describe: 'Explain what a statement touches and what the policy says',
  builder: (yargs: Argv): Argv<ExplainArguments> =>
    withOpa(withData(withStatement(yargs)))
      .option('policy', {
        type: 'string',
        alias: 'p',
        describe: "a policy directory or a bundle; default the configuration's, then policies",
      })
      .option('json', { type: 'boolean', default: false, describe: 'as JSON' })
      .example('$0 policy explain "SELECT ssn FROM users" -g agents -c shop.catalog.json', '')
      .example('$0 policy explain "SELECT 1" -f regate.yaml', 'as `regate serve` would judge it')
      .example('$0 policy explain "DELETE FROM orders" -g agents --json', 'for programs'),
  handler: async (args: ArgumentsCamelCase<ExplainArguments>): Promise<void> => {
    const named = args.catalog !== undefined || args.url !== undefined
    const complete = args.policy !== undefined && named
    const configuration = await deskConfiguration(args, complete)
    const path = args.policy ?? (configuration === null ? 'policies' : undefined)
    const policy = await deskPolicy(path, args, configuration)
    const facts = await statementFacts(args, configuration)
    const explained = facts.map((one) => explain(one, policy.statement(one)))
    if (args.json) {
      const shown = explained.length === 1 ? explained[0] : explained
      process.stdout.write(`${JSON.stringify(shown, asJson, 2)}\n`)
      return
    }
    const texts = explained.map((one, index) => inWords(one, facts[index]?.statement.text ?? ''))
    process.stdout.write(`${texts.join('\n\n')}\n`)
  },
}

interface Explanation {
  readonly kind: string
  readonly access: Access
  readonly decision: StatementDecision
  readonly plan: MaskPlan
}

function explain(facts: StatementFacts, decision: StatementDecision): Explanation {
  const { analysis, statement } = facts
  const plan = planMasks(decision, analysis, statement)
  return { kind: analysis.kind, access: analysis.access, decision, plan }
}

function asJson(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value
}

// For people

function inWords(explained: Explanation, text: string): string {
  const { access, decision, plan } = explained
  const lines = [text.trim(), '']
  const add = (title: string, entries: readonly string[]): void => {
    for (const [index, entry] of entries.entries()) {
      lines.push(`${(index === 0 ? title : '').padEnd(12)}${entry}`)
    }
  }
  add('statement', [`${explained.kind}: ${access.effects.join(', ')}`])
  add('incomplete', access.incomplete)
  add(
    'relations',
    access.relations.map(
      (one) => `${one.schema}.${one.name} (${one.actions.join(', ')}${cameIn(one.through)})`,
    ),
  )
  add(
    'columns',
    access.columns.map((one) => {
      const name = `${one.schema}.${one.relation}.${one.name}`
      return `${name} (${one.uses.join(', ')}${cameIn(one.through)})`
    }),
  )
  add(
    'functions',
    access.functions.map(
      (one) =>
        `${one.schema === '' ? '' : `${one.schema}.`}${one.name}: ${one.class}${cameIn(one.through)}`,
    ),
  )
  add(
    'settings',
    access.settings.map(
      (one) =>
        `${one.action} ${one.name ?? '(not constant)'}${one.value === null ? '' : ` = ${one.value}`}`,
    ),
  )
  add(
    'flows',
    access.flows.map((one) => `${one.from} → ${one.to} (${one.via})`),
  )
  add('outputs', outputLines(access, decision, plan))
  add('decision', decisionLines(decision, plan))
  return lines.join('\n')
}

function cameIn(through: string | null): string {
  return through === null ? '' : `, through a ${through}`
}

/** Each output with the tree of its sources, and which of them is to blame for its mask. */
function outputLines(access: Access, decision: StatementDecision, plan: MaskPlan): string[] {
  return access.outputs.flatMap((output) => {
    const mask = plan.kind === 'masked' ? plan.outputs[output.index] : undefined
    const hidden = mask === undefined || mask.kind === 'pass' ? null : mask
    const blamed = new Set(hidden?.columns)
    const sources = output.sources.map((source, index) => {
      const branch = index === output.sources.length - 1 ? '└─' : '├─'
      const own = blamed.has(source.column) ? decision.masks.get(source.column) : undefined
      const masked = own === undefined ? '' : `  ← masked: ${own.kind}`
      return `  ${branch} ${source.column} ${sourceWords(source)}${masked}`
    })
    return [`${output.index + 1}. ${output.name}${blame(hidden)}`, ...sources]
  })
}

function blame(mask: Exclude<OutputMask, { kind: 'pass' }> | null): string {
  if (mask === null) return ''
  const why = `because of ${[...new Set(mask.columns)].join(', ')}`
  const computed = mask.kind === 'derived' ? ', which it is computed from' : ''
  return `  ← masked: ${mask.mask.kind}, ${why}${computed}`
}

function sourceWords(source: OutputSource): string {
  if (source.via !== 'derived') return `(${source.via})`
  return source.total === true ? '(derived)' : '(derived, not total: it may fail or have an effect)'
}

function decisionLines(decision: StatementDecision, plan: MaskPlan): string[] {
  const lines = [[decision.action, decision.reason].filter((part) => part !== '').join(': ')]
  if (decision.rule !== '') lines.push(`rule ${decision.rule}`)
  if (decision.hint !== '') lines.push(`hint: ${decision.hint}`)
  for (const [column, mask] of decision.masks) lines.push(`mask ${column}: ${mask.kind}`)
  if (plan.kind === 'refuse') {
    lines.push(`refused by masking: ${plan.reason} (${plan.column})`, `hint: ${plan.hint}`)
  }
  return lines
}
