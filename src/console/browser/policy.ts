/** What is judged by: the active revision, the rules that fire, how a candidate would differ. */
import { h, type ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError, post } from './api.ts'
import {
  Badge,
  Card,
  Empty,
  facts,
  Failure,
  Heading,
  shown,
  Sql,
  table,
  Time,
  useLive,
  useLoad,
  useNow,
  type Me,
} from './parts.ts'
import { Sandbox } from './sandbox.ts'
import { count, plural, visible } from './words.ts'

interface PolicyReport {
  readonly revision: string
  readonly bundle: {
    readonly previous_revision: string | null
    readonly last_successful_activation: string | null
    readonly last_request: string
    readonly activation_count: number
    readonly failure_count: number
    readonly code: string | null
    readonly message: string | null
    readonly errors: readonly string[]
    readonly rolled_back: boolean
  }
  readonly declares: {
    readonly inputs: readonly string[]
    readonly on_demand: readonly string[]
    readonly constants: string
  }
  readonly classified_columns: readonly string[] | 'unknown'
  readonly shadow: Shadow | null
}

interface Verdict {
  readonly action: string
  readonly rule: string
}

interface Shadow {
  readonly revision: string
  readonly judged: number
  readonly different: number
  readonly wider: number
  readonly dropped: number
  readonly changes: Readonly<Record<string, number>>
  readonly samples: readonly {
    readonly statement: string
    readonly user: string
    readonly active: Verdict
    readonly candidate: Verdict
    readonly wider: boolean
  }[]
}

export interface RulesValue {
  readonly rules: readonly {
    readonly rule: string
    readonly action: string
    readonly kinds: Readonly<Record<string, number>>
    readonly count: number
  }[]
}

interface Around {
  readonly databases: readonly string[]
  readonly groups: readonly string[]
}

export function PolicyPage({ me }: { me: Me }): ComponentChildren {
  const report = useLoad<PolicyReport>('/v1/policy')
  const around = useLoad<Around>('/v1/policy/try')
  const now = useNow(5_000)
  return h(
    'div',
    null,
    h(Heading, { title: 'Policy' }),
    h(
      'div',
      { class: 'grid' },
      shown(around, (value) => h(Sandbox, value)),
      shown(report, (value) => h(Active, { report: value, me, now, again: () => report.again() })),
      h(Firing, null),
      shown(report, (value) => h(Candidate, { shadow: value.shadow })),
      shown(report, (value) => h(Classified, { columns: value.classified_columns })),
    ),
  )
}

function Active(props: {
  report: PolicyReport
  me: Me
  now: number
  again: () => void
}): ComponentChildren {
  const { report, me, now, again } = props
  const { bundle } = report
  const [error, setError] = useState<ApiError | null>(null)
  const act = (path: string) => (): void => {
    setError(null)
    post(path, {}).then(again, (thrown: unknown) => {
      setError(thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown), null))
      again()
    })
  }
  return h(
    Card,
    { title: 'Active', note: bundle.rolled_back ? 'rolled back' : null },
    facts([
      ['Revision', h('code', { class: 'break' }, visible(report.revision, 200))],
      [
        'Before',
        bundle.previous_revision === null
          ? '–'
          : h('code', { class: 'break' }, visible(bundle.previous_revision, 200)),
      ],
      [
        'Active since',
        bundle.last_successful_activation === null
          ? '–'
          : h(Time, { at: bundle.last_successful_activation, now }),
      ],
      ['Looked for a newer one', h(Time, { at: bundle.last_request, now })],
      [
        'Activations',
        `${count(bundle.activation_count)}, ${plural(bundle.failure_count, 'failure')}`,
      ],
      [
        'Sees',
        [
          ...report.declares.inputs,
          ...report.declares.on_demand.map((name) => `${name} on demand`),
        ].join(', ') || 'nothing volatile',
      ],
    ]),
    bundle.code === null
      ? null
      : h(
          'div',
          { class: 'problem', role: 'alert' },
          h('strong', null, 'The newest bundle is not active.'),
          h('p', null, visible(bundle.message ?? bundle.code, 2_000)),
          h(
            'ul',
            null,
            bundle.errors.map((line) => h('li', null, visible(line, 1_000))),
          ),
        ),
    error === null ? null : h(Failure, { error }),
    me.roles.includes('admin')
      ? h(
          'div',
          { class: 'buttons' },
          h('button', { type: 'button', onClick: act('/v1/policy/reload') }, 'Load again'),
          h(
            'button',
            {
              type: 'button',
              disabled: bundle.previous_revision === null,
              onClick: act('/v1/policy/rollback'),
            },
            'Go back to the one before',
          ),
        )
      : null,
  )
}

function Firing(): ComponentChildren {
  const value = useLive('rules')
  const rows = value?.rules ?? []
  const most = Math.max(1, ...rows.map((row) => row.count))
  return h(
    Card,
    { title: 'Rules that fire', note: 'since the start' },
    rows.length === 0
      ? h(Empty, null, 'No statement was judged yet.')
      : table({
          caption: 'Rules by how often they decided',
          columns: [
            { title: 'Rule', cell: (row) => h('code', null, visible(row.rule, 200)) },
            { title: 'Decision', cell: (row) => h(Badge, { word: row.action }) },
            {
              title: 'Statements',
              cell: (row) =>
                Object.entries(row.kinds)
                  .sort(([, a], [, b]) => b - a)
                  .slice(0, 4)
                  .map(([kind]) => kind)
                  .join(', '),
            },
            {
              title: 'Share',
              cell: (row) =>
                h('meter', {
                  min: 0,
                  max: most,
                  value: row.count,
                  'aria-label': `${visible(row.rule, 200)}: ${row.count}`,
                }),
            },
            { title: 'Count', class: 'number', cell: (row) => count(row.count) },
          ],
          rows,
          key: (row) => `${row.rule} ${row.action}`,
        }),
  )
}

function Candidate({ shadow }: { shadow: Shadow | null }): ComponentChildren {
  if (shadow === null) {
    return h(
      Card,
      { title: 'Candidate' },
      h(
        Empty,
        null,
        'No candidate is judged beside the active policy (policy.shadow in the configuration).',
      ),
    )
  }
  return h(
    Card,
    { title: 'Candidate', note: h('code', null, visible(shadow.revision, 60)), class: 'full' },
    facts([
      ['Judged', count(shadow.judged)],
      ['Different', count(shadow.different)],
      [
        'Lets through more',
        h('span', { class: shadow.wider > 0 ? 'badge bad' : '' }, count(shadow.wider)),
      ],
      ['Not judged', count(shadow.dropped)],
    ]),
    shadow.samples.length === 0
      ? h(Empty, null, 'It would have decided the same every time.')
      : table({
          caption: 'Statements that the candidate judges differently',
          columns: [
            { title: 'Who', cell: (row) => visible(row.user, 60) },
            {
              title: 'Active',
              cell: (row) => [
                h(Badge, { word: row.active.action }),
                ' ',
                h('code', null, visible(row.active.rule, 100)),
              ],
            },
            {
              title: 'Candidate',
              cell: (row) => [
                h(Badge, { word: row.candidate.action }),
                ' ',
                h('code', null, visible(row.candidate.rule, 100)),
              ],
            },
            {
              title: 'More',
              cell: (row) => (row.wider ? h('span', { class: 'badge bad' }, 'wider') : ''),
            },
            {
              title: 'Statement',
              class: 'wide',
              cell: (row) => h(Sql, { text: row.statement, line: true }),
            },
          ],
          rows: shadow.samples,
          key: (row) =>
            `${row.user} ${row.statement} ${row.candidate.action} ${row.candidate.rule}`,
        }),
  )
}

function Classified({ columns }: { columns: readonly string[] | 'unknown' }): ComponentChildren {
  const names = columns === 'unknown' ? [] : columns
  return h(
    Card,
    {
      title: 'Classified columns',
      note: columns === 'unknown' ? 'not declared' : plural(names.length, 'column'),
    },
    names.length === 0
      ? h(
          Empty,
          null,
          columns === 'unknown'
            ? 'The policy does not say which columns it masks.'
            : 'No column is classified.',
        )
      : h(
          'ul',
          { class: 'plain columns' },
          names.map((name) => h('li', null, h('code', null, visible(name, 200)))),
        ),
  )
}
