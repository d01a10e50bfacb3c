/** Whether all is well, at a glance: traffic, decisions, latency, what is active, what is wrong. */
import { h, type ComponentChildren } from 'preact'
import { useEffect } from 'preact/hooks'
import type { AuditPage } from './audit.ts'
import { chart } from './chart.ts'
import {
  Badge,
  Card,
  Empty,
  facts,
  Heading,
  link,
  Loading,
  shown,
  Sql,
  table,
  Time,
  useLive,
  useLoad,
  useNow,
} from './parts.ts'
import { bytes, count, duration, plural, rate, span, visible } from './words.ts'

interface Sample {
  readonly at: string
  readonly seconds: number
  readonly actions: Readonly<Record<string, number>>
  readonly upstream: { readonly p50: number | null; readonly p99: number | null }
  readonly loop_p99_us: number | null
}

interface Stage {
  readonly stage: string
  readonly count: number
  readonly p50: number | null
  readonly p99: number | null
}

export interface OverviewValue {
  readonly version: string
  readonly started: string
  readonly ready: {
    readonly ready: boolean
    readonly problems: readonly string[]
    readonly warnings: readonly string[]
  }
  readonly policy: {
    readonly revision: string
    readonly activated: string | null
    readonly problem: string | null
  }
  readonly sessions: number
  readonly connections: number
  readonly waiting: number
  readonly history: readonly Sample[]
  readonly stages: readonly Stage[]
  readonly totals: Readonly<Record<string, number>>
  readonly workers: readonly {
    readonly name: string
    readonly sessions: number
    readonly memory_bytes: number
    readonly loop_p99_us: number | null
  }[]
}

const actions = ['allow', 'mask', 'approve', 'deny'] as const

export function Overview(): ComponentChildren {
  const value = useLive('overview')
  const now = useNow(5_000)
  return h(
    'div',
    null,
    h(Heading, { title: 'Overview' }),
    value === null ? h(Loading, null) : h(Shown, { value, now }),
  )
}

function Shown({ value, now }: { value: OverviewValue; now: number }): ComponentChildren {
  const last = value.history.at(-1)
  const perSecond = (sample: Sample | undefined, of: readonly string[]): number =>
    sample === undefined ? 0 : sum(of.map((name) => sample.actions[name] ?? 0)) / sample.seconds
  return h(
    'div',
    { class: 'grid' },
    h(Health, { value }),
    h(
      'div',
      { class: 'tiles' },
      tile('Statements', `${rate(perSecond(last, actions))}/s`),
      tile('Refused', `${rate(perSecond(last, ['deny']))}/s`),
      tile('Server time p50', duration(last?.upstream.p50 ?? null)),
      tile('Server time p99', duration(last?.upstream.p99 ?? null)),
      tile('Sessions', count(value.sessions), link('/sessions', 'list')),
      tile('Waiting', count(value.waiting)),
    ),
    h(
      Card,
      { title: 'Statements a second', note: legend(served), class: 'wide' },
      chart(
        `Statements a second, now ${rate(perSecond(last, actions))}`,
        [
          { class: 'line total', values: value.history.map((one) => perSecond(one, actions)) },
          { class: 'line masked', values: value.history.map((one) => perSecond(one, ['mask'])) },
          { class: 'line denied', values: value.history.map((one) => perSecond(one, ['deny'])) },
        ],
        (top) => `${rate(top)}/s`,
      ),
      axis(value.history, now),
    ),
    h(
      Card,
      { title: 'Time at the server', note: legend(quantiles), class: 'wide' },
      chart(
        `Time at the server, p99 now ${duration(last?.upstream.p99 ?? null)}`,
        [
          { class: 'line p99', values: value.history.map((one) => one.upstream.p99) },
          { class: 'line p50', values: value.history.map((one) => one.upstream.p50) },
        ],
        duration,
      ),
      axis(value.history, now),
    ),
    h(Decisions, { value }),
    h(Stages, { value }),
    h(Policy, { value, now }),
    h(Workers, { value }),
    h(Refused, { now }),
  )
}

function Health({ value }: { value: OverviewValue }): ComponentChildren {
  const { problems, warnings } = value.ready
  if (problems.length === 0 && warnings.length === 0) return null
  return h(
    'div',
    { class: problems.length > 0 ? 'problem full' : 'notice full', role: 'status' },
    h('strong', null, problems.length > 0 ? 'Not ready' : plural(warnings.length, 'warning')),
    h(
      'ul',
      null,
      [...problems, ...warnings].map((line) => h('li', null, visible(line, 1_000))),
    ),
  )
}

function tile(name: string, value: string, more: ComponentChildren = null): ComponentChildren {
  return h(
    'div',
    { class: 'tile' },
    h('span', { class: 'name' }, name, more === null ? null : [' ', more]),
    h('span', { class: 'value' }, value),
  )
}

/** Class of the line, and its word. */
const served = [
  ['total', 'all'],
  ['masked', 'masked'],
  ['denied', 'denied'],
] as const
const quantiles = [
  ['p50', 'p50'],
  ['p99', 'p99'],
] as const

function legend(lines: readonly (readonly [string, string])[]): ComponentChildren {
  return h(
    'span',
    { class: 'legend' },
    lines.map(([name, word]) => h('span', { class: `key ${name}` }, word)),
  )
}

function axis(history: readonly Sample[], now: number): ComponentChildren {
  const first = history[0]
  const words = first === undefined ? '' : `${span(now - Date.parse(first.at))} ago`
  return h(
    'p',
    { class: 'axis', 'aria-hidden': 'true' },
    h('span', null, words),
    h('span', null, 'now'),
  )
}

function Decisions({ value }: { value: OverviewValue }): ComponentChildren {
  const all = sum(Object.values(value.totals))
  return h(
    Card,
    { title: 'Decisions', note: 'since the start' },
    h(
      'ul',
      { class: 'bars' },
      actions.map((name) => {
        const number = value.totals[name] ?? 0
        const share = all === 0 ? 0 : number / all
        return h(
          'li',
          { key: name },
          h(Badge, { word: name }),
          h('meter', {
            min: 0,
            max: 1,
            value: share,
            'aria-label': `${name}: ${(share * 100).toFixed(1)} %`,
          }),
          h('span', { class: 'number' }, count(number)),
        )
      }),
    ),
  )
}

function Stages({ value }: { value: OverviewValue }): ComponentChildren {
  return h(
    Card,
    { title: 'Where time goes', note: 'last 10 minutes' },
    table({
      caption: 'Time by stage',
      columns: [
        { title: 'Stage', cell: (row) => row.stage },
        { title: 'Times', class: 'number', cell: (row) => count(row.count) },
        { title: 'p50', class: 'number', cell: (row) => duration(row.p50) },
        { title: 'p99', class: 'number', cell: (row) => duration(row.p99) },
      ],
      rows: value.stages,
      key: (row) => row.stage,
    }),
  )
}

function Policy({ value, now }: { value: OverviewValue; now: number }): ComponentChildren {
  const { revision, activated, problem } = value.policy
  return h(
    Card,
    { title: 'Policy', note: link('/policy', 'open') },
    facts([
      ['Revision', h('code', { class: 'break' }, visible(revision, 100))],
      ['Active since', activated === null ? '–' : h(Time, { at: activated, now })],
      ['Version', value.version],
      ['Running since', h(Time, { at: value.started, now })],
    ]),
    problem === null ? null : h('p', { class: 'problem', role: 'alert' }, visible(problem, 1_000)),
  )
}

function Workers({ value }: { value: OverviewValue }): ComponentChildren {
  return h(
    Card,
    { title: 'Processes', note: plural(value.connections, 'connection') },
    table({
      caption: 'Processes',
      columns: [
        { title: 'Process', cell: (row) => row.name },
        { title: 'Sessions', class: 'number', cell: (row) => count(row.sessions) },
        { title: 'Memory', class: 'number', cell: (row) => bytes(row.memory_bytes) },
        { title: 'Event loop p99', class: 'number', cell: (row) => duration(row.loop_p99_us) },
      ],
      rows: value.workers,
      key: (row) => row.name,
    }),
  )
}

/** From the audit log, asked again while the page is looked at. */
function Refused({ now }: { now: number }): ComponentChildren {
  const loaded = useLoad<AuditPage>('/v1/audit?action=deny&type=statement_decided&limit=8')
  useEffect(() => {
    const timer = setInterval(() => loaded.again(), 10_000)
    return () => clearInterval(timer)
  }, [])
  return h(
    Card,
    { title: 'Refused lately', note: link('/audit?action=deny', 'all'), class: 'full' },
    shown(loaded, ({ records }) =>
      records.length === 0
        ? h(Empty, null, 'Nothing was refused.')
        : table({
            caption: 'Statements refused lately',
            columns: [
              { title: 'When', cell: (row) => h(Time, { at: row.time, now }) },
              { title: 'Who', cell: (row) => visible(row.identity?.user ?? '–', 60) },
              {
                title: 'Rule',
                cell: (row) => h('code', null, visible(row.decision?.rule ?? '', 100)),
              },
              {
                title: 'Statement',
                class: 'wide',
                cell: (row) => h(Sql, { text: row.statement?.text ?? '', line: true }),
              },
            ],
            rows: records,
            key: (row) => row.id,
          }),
    ),
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
