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

/** Whether only this machine can connect to the address. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^127(\.\d{1,3}){3}$/.test(bare)
}
