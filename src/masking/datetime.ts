/**
 * `truncate`, `bucket` and `noise` for date, time, timestamp and timestamptz.
 *
 * Binary values count days or microseconds from 2000-01-01 (src/include/datatype/timestamp.h).
 * Text is read in ISO style only; any other DateStyle is ambiguous and hidden, as are infinities.
 * timestamptz is coarsened and written in UTC, because the offset of a moment in a season's zone
 * would tell the season.
 */
import type { Mask, TruncateUnit } from '../policy/policy.ts'
import { keyedSigned } from './keyed.ts'
import type { Format, ValueMask } from './transform.ts'
import type { TypeShape } from './types.ts'

type DateMask = Extract<Mask, { kind: 'bucket' | 'truncate' | 'noise' }>
type DateFamily = 'date' | 'time' | 'timestamp' | 'timestamptz'

const DAY_US = 86_400_000_000n
const HOUR_US = 3_600_000_000n
const SECOND_US = 1_000_000n
/** Noise of ratio 1 moves a moment by up to a year. */
const NOISE_DAYS = 365
/** Days from 1970-01-01 to 2000-01-01. */
const EPOCH_DAYS = 10_957
/** Bounds of timestamp and, for our purposes, of date: 4713 BC up to, not including, 294277 AD. */
const DAYS_MIN = -2_451_545
const DAYS_END = 106_751_983

/** The transform, or null where type or unit do not fit. */
export function compileDate(
  mask: DateMask,
  shape: TypeShape,
  format: Format,
  key: Uint8Array,
): ValueMask | null {
  const family = shape.family
  if (
    family !== 'date' &&
    family !== 'time' &&
    family !== 'timestamp' &&
    family !== 'timestamptz'
  ) {
    return null
  }
  const coarsen = family === 'time' ? coarsenTime(mask) : coarsenMoment(mask, family, key)
  if (coarsen === null) return null
  return (buffer, start, end) => {
    const moment =
      format === 'binary'
        ? readBinary(family, buffer, start, end)
        : readText(family, buffer.toString('latin1', start, end))
    if (moment === null) return null
    const coarse = coarsen(moment)
    const days = floorDivide(coarse, DAY_US)
    if (days < DAYS_MIN || days >= DAYS_END) return null
    return format === 'binary' ? writeBinary(family, coarse) : writeText(family, coarse)
  }
}

/** Microseconds since 2000-01-01 00:00 (time: since midnight) → coarser ones. */
type Coarsen = (moment: bigint) => bigint

function coarsenTime(mask: DateMask): Coarsen | null {
  if (mask.kind !== 'truncate' || mask.unit !== 'hour') return null
  return (moment) => moment - (moment % HOUR_US)
}

function coarsenMoment(mask: DateMask, family: DateFamily, key: Uint8Array): Coarsen | null {
  switch (mask.kind) {
    case 'truncate':
      return truncateTo(mask.unit)
    case 'bucket': {
      // Width in days, counted from 2000-01-01.
      const width = Math.floor(mask.size)
      if (!Number.isSafeInteger(width) || width < 1) return null
      const widthUs = BigInt(width) * DAY_US
      return (moment) => BigInt(floorDivide(moment, widthUs)) * widthUs
    }
    case 'noise': {
      if (!(mask.ratio > 0 && mask.ratio < 1)) return null
      const unit = family === 'date' ? DAY_US : SECOND_US
      const span = mask.ratio * NOISE_DAYS * (Number(DAY_US) / Number(unit))
      const spanUnits = Math.max(1, span)
      return (moment) => {
        const units = Math.round(keyedSigned(key, moment.toString()) * spanUnits)
        return moment - (((moment % unit) + unit) % unit) + BigInt(units) * unit
      }
    }
  }
}

function truncateTo(unit: TruncateUnit | undefined): Coarsen | null {
  switch (unit) {
    // Digits are for numbers.
    case undefined:
      return null
    case 'hour':
      return (moment) => BigInt(floorDivide(moment, HOUR_US)) * HOUR_US
    case 'day':
      return onDays((days) => days)
    case 'week':
      // 2000-01-01 was a Saturday; ISO weeks begin on Monday.
      return onDays((days) => days - ((((days + 5) % 7) + 7) % 7))
    case 'month':
      return onDays((days) => startOf(days, (month) => month))
    case 'quarter':
      return onDays((days) => startOf(days, (month) => month - ((month - 1) % 3)))
    case 'year':
      return onDays((days) => startOf(days, () => 1))
    case 'decade':
      return onDays((days) => {
        const { year } = civilOf(days)
        return daysOf(Math.floor(year / 10) * 10, 1, 1)
      })
  }
}

function onDays(coarsen: (days: number) => number): Coarsen {
  return (moment) => BigInt(coarsen(floorDivide(moment, DAY_US))) * DAY_US
}

function startOf(days: number, monthOf: (month: number) => number): number {
  const { year, month } = civilOf(days)
  return daysOf(year, monthOf(month), 1)
}

function floorDivide(value: bigint, divisor: bigint): number {
  const quotient = value / divisor
  return Number(value < 0n && quotient * divisor !== value ? quotient - 1n : quotient)
}

interface Civil {
  /** Astronomical: 0 is 1 BC. */
  readonly year: number
  readonly month: number
  readonly day: number
}

/** Proleptic Gregorian calendar; days count from 2000-01-01. */
function civilOf(daysFrom2000: number): Civil {
  const shifted = daysFrom2000 + EPOCH_DAYS + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1_460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  )
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  }
}

function daysOf(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  const dayOfEra =
    yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468 - EPOCH_DAYS
}

const INFINITE_DAYS = [0x7fff_ffff, -0x8000_0000]
const INFINITE_US = [2n ** 63n - 1n, -(2n ** 63n)]

function readBinary(family: DateFamily, buffer: Buffer, start: number, end: number): bigint | null {
  if (family === 'date') {
    if (end - start !== 4) return null
    const days = buffer.readInt32BE(start)
    return INFINITE_DAYS.includes(days) ? null : BigInt(days) * DAY_US
  }
  if (end - start !== 8) return null
  const moment = buffer.readBigInt64BE(start)
  return INFINITE_US.includes(moment) ? null : moment
}

function writeBinary(family: DateFamily, moment: bigint): Buffer {
  const bytes = Buffer.alloc(family === 'date' ? 4 : 8)
  if (family === 'date') bytes.writeInt32BE(floorDivide(moment, DAY_US))
  else bytes.writeBigInt64BE(moment)
  return bytes
}

const TEXT =
  /^(\d{4,6})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?)?( BC)?$/
const TIME_TEXT = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?$/

/** Moment of an ISO text, in UTC where it has an offset; null for anything else. */
function readText(family: DateFamily, text: string): bigint | null {
  if (family === 'time') {
    const match = TIME_TEXT.exec(text)
    return match === null ? null : clockUs(match[1], match[2], match[3], match[4])
  }
  const match = TEXT.exec(text)
  if (match === null) return null
  const [, year, month, day, hour, minute, second, fraction, sign, h, m, s, bc] = match
  if ((hour === undefined) !== (family === 'date')) return null
  if ((sign === undefined) !== (family !== 'timestamptz')) return null
  const days = daysOf(
    bc === undefined ? Number(year) : 1 - Number(year),
    Number(month),
    Number(day),
  )
  const local = BigInt(days) * DAY_US + clockUs(hour, minute, second, fraction)
  const offset = clockUs(h, m, s)
  return sign === '-' ? local + offset : local - offset
}

function clockUs(hour = '0', minute = '0', second = '0', fraction?: string): bigint {
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second)
  return BigInt(seconds) * SECOND_US + BigInt((fraction ?? '').padEnd(6, '0'))
}

function writeText(family: DateFamily, moment: bigint): Buffer {
  const days = floorDivide(moment, DAY_US)
  const clock = moment - BigInt(days) * DAY_US
  if (family === 'time') return Buffer.from(clockText(moment))
  const { year, month, day } = civilOf(days)
  const shown = year > 0 ? year : 1 - year
  const date = `${String(shown).padStart(4, '0')}-${two(month)}-${two(day)}`
  const time = family === 'date' ? '' : ` ${clockText(clock)}`
  const zone = family === 'timestamptz' ? '+00' : ''
  return Buffer.from(`${date}${time}${zone}${year > 0 ? '' : ' BC'}`)
}

function clockText(clock: bigint): string {
  const seconds = Number(clock / SECOND_US)
  const fraction = (clock % SECOND_US).toString().padStart(6, '0').replace(/0+$/, '')
  const text = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  return fraction === '' ? text : `${text}.${fraction}`
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}
