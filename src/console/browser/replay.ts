/** A session played back from the record, in its own rhythm. */
import { h, type ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { outcomeOf, summaryOf, type AuditPage, type AuditRecord } from './audit.ts'
import { Badge, Empty, facts, Heading, link, Loading, shown, Sql, useLoad } from './parts.ts'
import { clock, count, duration, visible } from './words.ts'

const speeds = [1, 4, 16, 64]
/** Nobody waits longer than this for the next statement. */
const pauseMsMax = 3_000

export function Replay({ session }: { session: string }): ComponentChildren {
  const loaded = useLoad<AuditPage>(
    `/v1/audit?session=${encodeURIComponent(session)}&order=asc&limit=1000`,
  )
  return h(
    'div',
    null,
    h(
      Heading,
      { title: 'Session replay' },
      h('code', { class: 'note break' }, visible(session, 100)),
      link(`/audit?session=${encodeURIComponent(session)}&play=no`, 'As a list', {
        class: 'button quiet',
      }),
      link('/audit', 'Search', { class: 'button quiet' }),
    ),
    shown(loaded, (page) =>
      page.records.length === 0
        ? h(Empty, null, 'The log has nothing of this session.')
        : h(Player, { page }),
    ),
  )
}

function Player({ page }: { page: AuditPage }): ComponentChildren {
  const { records } = page
  const [at, setAt] = useState(records.length)
  const [playing, setPlaying] = useState(false)
  const [speed, setSpeed] = useState(4)
  useEffect(() => {
    if (!playing) return undefined
    if (at >= records.length) {
      setPlaying(false)
      return undefined
    }
    const before = records[at - 1]
    const next = records[at]
    const gap =
      before === undefined || next === undefined
        ? 0
        : Date.parse(next.time) - Date.parse(before.time)
    const timer = setTimeout(() => setAt(at + 1), Math.min(pauseMsMax, Math.max(50, gap / speed)))
    return () => clearTimeout(timer)
  }, [playing, at, speed, records])
  const play = (): void => {
    if (!playing && at >= records.length) setAt(1)
    setPlaying(!playing)
  }
  const first = records[0]
  return h(
    'div',
    null,
    h(Subject, { records }),
    h(
      'div',
      { class: 'player', role: 'group', 'aria-label': 'Replay' },
      h('button', { type: 'button', class: 'primary', onClick: play }, playing ? 'Pause' : 'Play'),
      h('input', {
        type: 'range',
        min: 1,
        max: records.length,
        value: at,
        'aria-label': 'Position',
        onInput: (event: Event) => setAt(Number((event.currentTarget as HTMLInputElement).value)),
      }),
      h('span', { class: 'note number', role: 'status' }, `${at} of ${records.length}`),
      h(
        'label',
        null,
        'Speed ',
        h(
          'select',
          {
            value: String(speed),
            onChange: (event: Event) =>
              setSpeed(Number((event.currentTarget as HTMLSelectElement).value)),
          },
          speeds.map((one) => h('option', { value: String(one) }, `${one}×`)),
        ),
      ),
    ),
    h(
      'ol',
      { class: 'timeline' },
      records
        .slice(0, at)
        .map((record) =>
          h(Moment, { key: record.id, record, startMs: Date.parse(first?.time ?? '') }),
        ),
    ),
    page.next === null
      ? null
      : h(
          'p',
          { class: 'note' },
          'This session has more than 1,000 records: the rest is in the search.',
        ),
  )
}

function Subject({ records }: { records: readonly AuditRecord[] }): ComponentChildren {
  const known = records.find((record) => record.identity !== undefined)
  if (known?.identity === undefined) return h(Loading, null)
  const { identity, database, client_address } = known
  const statements = records.filter(({ type }) => type === 'statement_decided')
  const denied = statements.filter(({ decision }) => decision?.action === 'deny').length
  return facts([
    [
      'Who',
      [
        h('strong', null, visible(identity.user, 100)),
        ' ',
        identity.groups.map((group) => h('span', { class: 'tag' }, visible(group, 60))),
      ],
    ],
    ['Where', `${visible(database ?? '', 100)} from ${visible(client_address ?? '–', 100)}`],
    ['Began', clock(known.time, Date.now())],
    ['Statements', `${count(statements.length)}, ${count(denied)} denied`],
  ])
}

function Moment({ record, startMs }: { record: AuditRecord; startMs: number }): ComponentChildren {
  const { decision, statement } = record
  const offsetUs = (Date.parse(record.time) - startMs) * 1_000
  const masked = record.access?.masked_columns ?? []
  return h(
    'li',
    { class: decision?.action ?? 'event' },
    h('time', { dateTime: record.time, title: record.time }, `+${duration(offsetUs)}`),
    h(
      'div',
      null,
      statement === undefined ? h('p', null, summaryOf(record)) : h(Sql, { text: statement.text }),
      decision?.action === undefined
        ? null
        : h(
            'p',
            { class: 'note' },
            h(Badge, { word: decision.action }),
            ' ',
            visible(decision.reason ?? '', 500),
            decision.action === 'deny' ? '' : ` → ${outcomeOf(record)}`,
            masked.length === 0
              ? null
              : [' · masked: ', h('code', null, visible(masked.join(', '), 300))],
          ),
    ),
  )
}
