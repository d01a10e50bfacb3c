/**
 * Numbers, times and foreign text in words. Pure: no document, no network.
 *
 * Text from a database or a client is shown as text whatever it holds: characters that would move,
 * hide or reverse what stands beside them are made visible, and there is an end to its length.
 */

/** 1,234 · 12.3k · 4.5M */
export function count(value: number): string {
  if (value < 10_000) return Math.round(value).toLocaleString('en')
  const [unit, divisor] = value < 1e6 ? ['k', 1e3] : value < 1e9 ? ['M', 1e6] : ['G', 1e9]
  return `${(value / divisor).toFixed(1)}${unit}`
}

/** A rate: small ones keep a digit. */
export function rate(value: number): string {
  return value > 0 && value < 10 ? value.toFixed(1) : count(value)
}

/** 850 µs · 12.3 ms · 4.5 s · 3 min */
export function duration(us: number | null): string {
  if (us === null) return '–'
  if (us < 1_000) return `${Math.round(us)} µs`
  if (us < 1_000_000) return `${(us / 1_000).toFixed(us < 100_000 ? 1 : 0)} ms`
  if (us < 120_000_000) return `${(us / 1_000_000).toFixed(1)} s`
  return span(us / 1_000)
}

/** 12 s · 3 min · 2 h · 5 d */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/** 512 B · 1.5 KiB · 20 MiB */
export function bytes(value: number): string {
  if (value < 1024) return `${value} B`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  let rest = value / 1024
  let unit = 0
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024
    unit++
  }
  return `${rest.toFixed(rest < 10 ? 1 : 0)} ${units[unit] ?? ''}`
}

/** `3 min ago`, `in 12 s`, relative to `nowMs`. */
export function ago(time: string, nowMs: number): string {
  const ms = nowMs - Date.parse(time)
  if (Number.isNaN(ms)) return '–'
  return ms >= 0 ? `${span(ms)} ago` : `in ${span(-ms)}`
}

/** `14:03:07` today, `2 Jan 14:03` otherwise, in the reader's time zone. */
export function clock(time: string, nowMs: number): string {
  const date = new Date(time)
  if (Number.isNaN(date.getTime())) return '–'
  const today = new Date(nowMs).toDateString() === date.toDateString()
  return today
    ? date.toLocaleTimeString('en-GB')
    : date.toLocaleString('en-GB', {
        ...{ day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' },
      })
}

/** `1 row`, `2 rows` */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

const shownCharactersMax = 20_000

/** Controls except line breaks and tabs, and what changes the direction or width of other text. */
const invisible =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

/** Foreign text as it may stand in a page. */
export function visible(text: string, charactersMax = shownCharactersMax): string {
  const cut = text.length > charactersMax
  const shown = (cut ? text.slice(0, charactersMax) : text).replace(invisible, (character) => {
    const code = character.charCodeAt(0)
    if (code < 0x20) return String.fromCharCode(0x2400 + code)
    return code === 0x7f ? '\u2421' : `⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩`
  })
  return cut ? `${shown} … (${count(text.length)} characters)` : shown
}

/** One line of it. */
export function oneLine(text: string, charactersMax = 160): string {
  return visible(
    text
      .slice(0, charactersMax * 4)
      .replace(/\s+/g, ' ')
      .trim(),
    charactersMax,
  )
}
