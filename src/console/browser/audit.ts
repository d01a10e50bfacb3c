/** The record: searched, and a session of it played as a timeline. */
import { h, type ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError, get } from './api.ts'
import {
  Badge,
  Empty,
  facts,
  Failure,
  go,
  Heading,
  link,
  shown,
  Sql,
  table,
  Time,
  useLoad,
  useNow,
} from './parts.ts'
import { Replay } from './replay.ts'
import { bytes, duration, plural, visible } from './words.ts'

interface Outcome {
  readonly forwarded?: boolean
  readonly tag?: string | null
  readonly rows?: number
  readonly bytes?: number
  readonly sqlstate?: string | null
  readonly duration_us?: number
  readonly skipped?: boolean
  readonly lost?: boolean
}

/** A record of the log; what a type does not have is absent. */
export interface AuditRecord {
  readonly id: string
  readonly time: string
  readonly type: string
  readonly session?: string
  readonly database?: string
  readonly client_address?: string
  readonly identity?: {
    readonly subject: string
    readonly user: string
    readonly groups: readonly string[]
    readonly method: string
  }
  readonly statement?: {
    readonly text: string
    readonly kind: string | null
    readonly fingerprint?: string | null
    readonly redacted?: boolean
  }
  readonly access?: {
    readonly relations: readonly string[]
    readonly columns?: readonly string[]
    readonly effects: readonly string[]
    readonly masked_columns: readonly string[]
  }
  readonly decision?: {
    readonly action?: string
    readonly rule?: string
    readonly reason?: string
    readonly revision?: string
    readonly decision_id: string
    readonly cached?: boolean
    readonly duration_us?: number
  }
  readonly approval?: {
    readonly id?: string
    readonly outcome?: string
    readonly by?: unknown
  } | null
  readonly outcome?: Outcome | null
  readonly reason?: string
  readonly ended?: {
    readonly time: string
    readonly outcome: Outcome
    readonly result: unknown
  } | null
}

export interface AuditPage {
  readonly records: readonly AuditRecord[]
  readonly next: string | null
  readonly complete: boolean
}

const fields = [
  ['text', 'Text', 'part of the statement'],
  ['user', 'User', 'name or subject'],
  ['group', 'Group', ''],
  ['database', 'Database', ''],
  ['table', 'Table', 'users, public.*'],
  ['column', 'Column', 'users.ssn'],
  ['rule', 'Rule', 'regate.masking'],
  ['kind', 'Kind', 'select'],
  ['sqlstate', 'SQLSTATE', '42501'],
  ['since', 'Since', '2h or a time'],
  ['until', 'Until', ''],
  ['session', 'Session', ''],
] as const

export function Audit(): ComponentChildren {
  const given = new URLSearchParams(location.search)
  const session = given.get('session')
  if (session !== null && given.get('play') !== 'no') return h(Replay, { session, key: session })
  return h(Search, { key: given.toString(), given })
}

function Search({ given }: { given: URLSearchParams }): ComponentChildren {
  const query = new URLSearchParams(given)
  query.delete('play')
  const loaded = useLoad<AuditPage>(
    `/v1/audit?${query.toString()}${given.has('limit') ? '' : '&limit=50'}`,
  )
  const now = useNow(10_000)
  const submit = (event: SubmitEvent): void => {
    event.preventDefault()
    const form = new FormData(event.currentTarget as HTMLFormElement)
    const wanted = new URLSearchParams()
    for (const [name, value] of form) {
      if (typeof value === 'string' && value.trim() !== '') wanted.append(name, value.trim())
    }
    if (wanted.has('session')) wanted.set('play', 'no')
    go(`/audit?${wanted.toString()}`)
  }
  return h(
    'div',
    null,
    h(Heading, { title: 'Audit' }),
    h(
      'form',
      { class: 'filters', role: 'search', onSubmit: submit },
      fields.map(([name, label, placeholder]) =>
        h(
          'div',
          { class: `field ${name}`, key: name },
          h('label', { for: `audit-${name}` }, label),
          h('input', {
            id: `audit-${name}`,
            name,
            placeholder,
            defaultValue: given.get(name) ?? '',
            autocomplete: 'off',
            maxLength: 1_000,
          }),
        ),
      ),
      h(
        'div',
        { class: 'field action' },
        h('label', { for: 'audit-action' }, 'Decision'),
        h(
          'select',
          { id: 'audit-action', name: 'action' },
          ['', 'allow', 'mask', 'approve', 'deny'].map((name) =>
            h(
              'option',
              { value: name, selected: (given.get('action') ?? '') === name },
              name === '' ? 'any' : name,
            ),
          ),
        ),
      ),
      h(
        'div',
        { class: 'buttons' },
        h('button', { type: 'submit', class: 'primary' }, 'Search'),
        link('/audit', 'Clear', { class: 'button quiet' }),
      ),
    ),
    shown(loaded, (page) => h(Found, { first: page, query: query.toString(), now })),
  )
}

/** The first page and those that were asked for after it. */
function Found(props: { first: AuditPage; query: string; now: number }): ComponentChildren {
  const { first, query, now } = props
  const [more, setMore] = useState<readonly AuditPage[]>([])
  const [error, setError] = useState<ApiError | null>(null)
  const [busy, setBusy] = useState(false)
  const [open, setOpen] = useState<string | null>(null)
  const pages = [first, ...more]
  const records = pages.flatMap((page) => page.records)
  const last = pages.at(-1) ?? first
  const next = async (): Promise<void> => {
    setBusy(true)
    setError(null)
    try {
      const page = await get<AuditPage>(
        `/v1/audit?${query}&cursor=${encodeURIComponent(last.next ?? '')}`,
      )
      setMore((before) => [...before, page])
    } catch (thrown) {
      setError(thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown), null))
    }
    setBusy(false)
  }
  const chosen = records.find((record) => record.id === open)
  return h(
    'div',
    { class: chosen === undefined ? '' : 'split' },
    h(
      'div',
      null,
      h(
        'p',
        { class: 'note', role: 'status' },
        `${plural(records.length, 'record')}${last.next === null ? '' : ' so far'}`,
      ),
      records.length === 0
        ? h(
            Empty,
            null,
            last.next === null
              ? 'No record matches.'
              : 'Nothing found yet: this search reads many records.',
          )
        : table({
            caption: 'Records',
            columns: columns(now, (record) => setOpen(record.id === open ? null : record.id)),
            rows: records,
            key: (row) => row.id,
            selected: open,
          }),
      error === null ? null : h(Failure, { error }),
      last.next === null
        ? null
        : h(
            'div',
            { class: 'buttons' },
            h(
              'button',
              { type: 'button', disabled: busy, onClick: () => void next() },
              busy ? 'Loading …' : last.complete ? 'Show more' : 'Search on',
            ),
          ),
    ),
    chosen === undefined ? null : h(Detail, { record: chosen, now, onClose: () => setOpen(null) }),
  )
}

function columns(
  now: number,
  open: (record: AuditRecord) => void,
): Parameters<typeof table<AuditRecord>>[0]['columns'] {
  return [
    { title: 'Time', cell: (row) => h(Time, { at: row.time, now, exact: true }) },
    { title: 'User', cell: (row) => visible(row.identity?.user ?? '–', 60) },
    {
      title: 'Decision',
      cell: (row) =>
        row.decision?.action === undefined
          ? h('span', { class: 'note' }, visible(row.type.replaceAll('_', ' '), 60))
          : h(Badge, { word: row.decision.action }),
    },
    { title: 'Outcome', cell: (row) => outcomeOf(row) },
    {
      title: 'Record',
      class: 'wide',
      cell: (row) =>
        h('button', { type: 'button', class: 'row', onClick: () => open(row) }, summaryOf(row)),
    },
  ]
}

export function summaryOf(record: AuditRecord): ComponentChildren {
  if (record.statement !== undefined) return h(Sql, { text: record.statement.text, line: true })
  if (record.approval?.id !== undefined) return `approval ${visible(record.approval.id, 60)}`
  return visible(record.reason ?? record.type.replaceAll('_', ' '), 200)
}

/** What became of it, in a few words. */
export function outcomeOf(record: AuditRecord): string {
  const outcome = record.ended?.outcome ?? record.outcome ?? null
  if (record.type !== 'statement_decided') return ''
  if (outcome === null) return 'not ended'
  if (outcome.forwarded === false) return visible(outcome.sqlstate ?? 'refused', 20)
  if (outcome.lost === true) return 'lost'
  if (outcome.skipped === true) return 'skipped'
  if (typeof outcome.sqlstate === 'string') return `error ${visible(outcome.sqlstate, 20)}`
  return `${visible(outcome.tag ?? '', 40)} · ${duration(outcome.duration_us ?? null)}`
}

function Detail(props: {
  record: AuditRecord
  now: number
  onClose: () => void
}): ComponentChildren {
  const { record, onClose } = props
  const { decision, access, identity, statement } = record
  const outcome = record.ended?.outcome ?? record.outcome ?? null
  const text = (value: string | null | undefined): ComponentChildren =>
    value === null || value === undefined || value === ''
      ? '–'
      : h('span', { class: 'break' }, visible(value, 1_000))
  return h(
    'aside',
    { class: 'card detail', 'aria-label': 'The record' },
    h(
      'header',
      null,
      h('h2', null, visible(record.type.replaceAll('_', ' '), 60)),
      h(
        'button',
        { type: 'button', class: 'quiet', 'aria-label': 'Close the record', onClick: onClose },
        '✕',
      ),
    ),
    statement === undefined ? null : h(Sql, { text: statement.text }),
    statement?.redacted === true
      ? h('p', { class: 'note' }, 'Constants were left out when this was recorded.')
      : null,
    facts([
      ['When', text(new Date(record.time).toISOString())],
      [
        'Who',
        identity === undefined
          ? '–'
          : [
              visible(identity.user, 100),
              ' ',
              h('span', { class: 'note' }, visible(identity.groups.join(', '), 300)),
            ],
      ],
      ['Database', text(record.database)],
      [
        'Decision',
        decision?.action === undefined
          ? '–'
          : [h(Badge, { word: decision.action }), ' ', visible(decision.reason ?? '', 1_000)],
      ],
      [
        'Rule',
        decision?.rule === undefined
          ? '–'
          : h('code', { class: 'break' }, visible(decision.rule, 200)),
      ],
      ['Revision', text(decision?.revision)],
      ['Tables', text(access?.relations.join(', '))],
      ['Masked', text(access?.masked_columns.join(', '))],
      ['Outcome', outcomeOf(record) || '–'],
      ...(outcome?.rows === undefined
        ? []
        : [['Result', `${plural(outcome.rows, 'row')}, ${bytes(outcome.bytes ?? 0)}`] as const]),
      ...(record.approval === null || record.approval === undefined
        ? []
        : [
            [
              'Approval',
              h('code', { class: 'break' }, visible(JSON.stringify(record.approval), 1_000)),
            ] as const,
          ]),
      ['Record', h('code', { class: 'break' }, visible(record.id, 100))],
    ]),
    record.session === undefined
      ? null
      : h(
          'p',
          { class: 'buttons' },
          link(`/audit?session=${encodeURIComponent(record.session)}`, 'Play this session', {
            class: 'button',
          }),
        ),
  )
}
