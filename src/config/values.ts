/** Durations and sizes as people write them. Pure; the schema has checked the form before. */

export const durationPattern = /^\d+(\.\d+)?(ms|s|m|h|d)$/
export const sizePattern = /^\d+(\.\d+)?(B|kB|KB|MB|GB)$/

const durationUnits = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const sizeUnits = { B: 1, kB: 1024, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 } as const

/** `30s` → 30000. */
export function durationMs(value: string): number {
  return scaled(value, durationUnits)
}

/** `64MB` → 67108864, with 1024 as PostgreSQL has it. */
export function sizeBytes(value: string): number {
  return scaled(value, sizeUnits)
}

function scaled(value: string, units: Readonly<Record<string, number>>): number {
  const [, number, unit] = /^([\d.]+)([A-Za-z]+)$/.exec(value) ?? []
  const factor = units[unit ?? '']
  if (factor === undefined) throw new RangeError(`not a number with a unit: ${value}`)
  return Math.round(Number(number) * factor)
}

/** The nearest of the known words, if it is near enough to be a slip of the pen. */
export function nearest(word: string, known: readonly string[]): string | null {
  let best: string | null = null
  let least = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < least) {
      least = distance
      best = candidate
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

/** Whether only this machine can connect to the address. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^127(\.\d{1,3}){3}$/.test(bare)
}
