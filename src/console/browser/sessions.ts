/** Who is connected, live; ending a session asks first. */
import { h, type ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError, remove } from './api.ts'
import {
  Badge,
  Dialog,
  Empty,
  Failure,
  Heading,
  link,
  Loading,
  table,
  Time,
  useLive,
  useNow,
  type Me,
} from './parts.ts'
import { bytes, plural, visible } from './words.ts'

export interface SessionRow {
  readonly id: string
  readonly identity: {
    readonly subject: string
    readonly user: string
    readonly groups: readonly string[]
    readonly type: string
    readonly on_behalf_of: string | null
    readonly method: string
  }
  readonly database: string
  readonly role: string
  readonly client_address: string | null
  readonly started: string
  readonly transaction: string
  readonly waiting: string | null
  readonly bytes: { readonly from_client: number; readonly from_upstream: number }
}

export function Sessions({ me }: { me: Me }): ComponentChildren {
  const value = useLive('sessions')
  const now = useNow()
  const [filter, setFilter] = useState('')
  const [ending, setEnding] = useState<SessionRow | null>(null)
  const rows = (value?.sessions ?? []).filter((row) => matches(row, filter))
  return h(
    'div',
    null,
    h(
      Heading,
      { title: 'Sessions' },
      h(
        'label',
        { class: 'search' },
        h('span', { class: 'hidden' }, 'Filter'),
        h('input', {
          type: 'search',
          placeholder: 'user, group, database, address',
          value: filter,
          onInput: (event: Event) => setFilter((event.currentTarget as HTMLInputElement).value),
        }),
      ),
      value === null
        ? null
        : h('span', { class: 'note', role: 'status' }, plural(rows.length, 'session')),
    ),
    value === null
      ? h(Loading, null)
      : rows.length === 0
        ? h(Empty, null, filter === '' ? 'Nobody is connected.' : 'No session matches.')
        : table({
            caption: 'Sessions',
            columns: columns(now, me, setEnding),
            rows,
            key: (row) => row.id,
          }),
    ending === null ? null : h(End, { session: ending, onClose: () => setEnding(null) }),
  )
}

function matches(row: SessionRow, filter: string): boolean {
  const { subject, user, groups } = row.identity
  const words = [row.id, subject, user, ...groups, row.database, row.client_address ?? '']
  return words.some((word) => word.toLowerCase().includes(filter.trim().toLowerCase()))
}

function columns(
  now: number,
  me: Me,
  end: (row: SessionRow) => void,
): Parameters<typeof table<SessionRow>>[0]['columns'] {
  const mayEnd = me.roles.includes('admin')
  return [
    { title: 'User', cell: (row) => h('strong', null, visible(row.identity.user, 80)) },
    {
      title: 'Groups',
      cell: (row) =>
        row.identity.groups.map((group) => h('span', { class: 'tag' }, visible(group, 60))),
    },
    {
      title: 'By',
      cell: (row) => [row.identity.method, row.identity.type === 'machine' ? ' · machine' : ''],
    },
    { title: 'Database', cell: (row) => visible(row.database, 60) },
    { title: 'From', cell: (row) => visible(row.client_address ?? '–', 60) },
    { title: 'Since', cell: (row) => h(Time, { at: row.started, now }) },
    {
      title: 'State',
      cell: (row) =>
        row.waiting === 'hold'
          ? h(Badge, { word: 'held' })
          : `${row.transaction === 'idle' ? 'no transaction' : row.transaction}${row.waiting === null ? '' : `, waits: ${row.waiting}`}`,
    },
    { title: 'Results', class: 'number', cell: (row) => bytes(row.bytes.from_upstream) },
    {
      title: 'Actions',
      class: 'actions',
      cell: (row) => [
        link(`/audit?session=${encodeURIComponent(row.id)}`, 'Replay', {
          'aria-label': `Replay the session of ${visible(row.identity.user, 60)}`,
        }),
        mayEnd
          ? h(
              'button',
              {
                type: 'button',
                class: 'danger quiet',
                'aria-label': `End the session of ${visible(row.identity.user, 60)}`,
                onClick: () => end(row),
              },
              'End',
            )
          : null,
      ],
    },
  ]
}

function End({
  session,
  onClose,
}: {
  session: SessionRow
  onClose: () => void
}): ComponentChildren {
  const [error, setError] = useState<ApiError | null>(null)
  const [busy, setBusy] = useState(false)
  const end = async (): Promise<void> => {
    setBusy(true)
    try {
      await remove(`/v1/sessions/${encodeURIComponent(session.id)}`)
      onClose()
    } catch (thrown) {
      setError(thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown), null))
      setBusy(false)
    }
  }
  return h(
    Dialog,
    { title: 'End this session?', onClose },
    h(
      'p',
      null,
      `The connection of ${visible(session.identity.user, 80)} to ${visible(session.database, 60)} is closed after the statement that runs now. `,
      session.transaction === 'idle' ? '' : 'Its open transaction is rolled back. ',
      'The client is told why.',
    ),
    error === null ? null : h(Failure, { error }),
    h(
      'div',
      { class: 'buttons' },
      h('button', { type: 'button', onClick: onClose }, 'Keep it'),
      h(
        'button',
        { type: 'button', class: 'danger', disabled: busy, onClick: () => void end() },
        'End the session',
      ),
    ),
  )
}
