/**
 * Where a connection comes from: what of its address counts as one place for limits, and whether it
 * is this machine.
 */
import { isIP } from 'node:net'

/** An IPv4 client on a dual-stack listener comes as `::ffff:127.0.0.1`; a zone is of no interest. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
}

/** null (a Unix socket) is this machine. */
export function isLoopback(address: string | null): boolean {
  if (address === null) return true
  const plain = plainAddress(address)
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'))
}

/**
 * Who counts as one: an IPv4 address, or the IPv6 network of 64 bits that the address lies in. One
 * host may have all addresses of such a network (RFC 4291 §2.5.1), so each of them counts for nothing.
 */
export function sourceOf(address: string | null): string {
  if (address === null) return 'socket'
  const plain = plainAddress(address)
  if (isIP(plain) !== 6) return plain
  const [front = '', back] = plain.toLowerCase().split('::')
  const groups = front === '' ? [] : front.split(':')
  if (back !== undefined) {
    const behind = back === '' ? 0 : back.split(':').length
    while (groups.length + behind < groupCount) groups.push('0')
    groups.push(...back.split(':'))
  }
  return `${groups
    .slice(0, networkGroupCount)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}

const groupCount = 8
const networkGroupCount = 4
