import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { detectorKinds, ValueDetectors, type DetectorKind } from '../../../src/masking/masking.ts'
import { isIban, luhn } from '../../../src/masking/checksums.ts'

function find(text: string, kinds: readonly DetectorKind[] = detectorKinds): DetectorKind | null {
  const bytes = Buffer.from(text)
  return new ValueDetectors({ kinds }).find(bytes, 0, bytes.length)
}

describe('value detectors', () => {
  const found: Readonly<Record<DetectorKind, readonly string[]>> = {
    card: ['4111 1111 1111 1111', 'paid with 5555-5555-5555-4444.', '378282246310005'],
    iban: ['DE89 3704 0044 0532 0130 00', 'to GB82WEST12345698765432 please'],
    email: ['write to jane.doe+x@mail.example.co.uk', '<a@b.io>'],
    us_ssn: ['ssn 123-45-6789'],
    national_id: [
      '12345678Z',
      '529.982.247-25',
      '44051401359',
      '2 55 08 14 168 025 38',
      '811228-9874',
      '131052-308T',
      '943 476 5919',
    ],
    private_key: ['-----BEGIN RSA PRIVATE KEY-----\nMIIE', '-----BEGIN PRIVATE KEY-----'],
    api_key: ['AKIAIOSFODNN7EXAMPLE', `ghp_${'a1'.repeat(18)}`, `sk-ant-${'x'.repeat(24)}`],
    jwt: ['eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl'],
  }
  for (const [kind, texts] of Object.entries(found)) {
    it(`finds ${kind}`, () => {
      for (const text of texts) expect(find(text), text).toBe(kind)
    })
  }

  it('leaves what only looks alike', () => {
    for (const text of [
      '4111 1111 1111 1112',
      'order 1234567890123456',
      'DE89 3704 0044 0532 0130 01',
      '000-12-3456 and 666-12-3456 and 912-34-5678',
      '12345678A',
      '2026-01-01 12:00:00.123456',
      'a@b',
      'deaddead-dead-4ead-8ead-000000000001',
      'plain words, nothing else',
      '-----BEGIN PUBLIC KEY-----',
      '111.111.111-11',
    ]) {
      expect(find(text), text).toBeNull()
    }
  })

  it('looks only for what it was asked for, and counts', () => {
    expect(find('a@example.com', ['card'])).toBeNull()
    const detectors = new ValueDetectors({ kinds: ['email'] })
    for (let index = 0; index < 3; index += 1) detectors.find(Buffer.from('a@example.com'), 0, 13)
    expect(detectors.counts.get('email')).toBe(3)
  })

  it('has bounded cost on hostile text', () => {
    const hostile = [
      '1 '.repeat(500_000),
      'a'.repeat(1_000_000),
      'a.'.repeat(500_000) + '@',
      'eyJ'.repeat(300_000),
      'AB12 '.repeat(200_000),
      '-----BEGIN '.repeat(90_000),
      'a@a-'.repeat(250_000),
    ]
    for (const text of hostile) {
      const bytes = Buffer.from(text)
      const detectors = new ValueDetectors({ kinds: detectorKinds })
      const began = performance.now()
      detectors.find(bytes, 0, bytes.length)
      expect(performance.now() - began, text.slice(0, 10)).toBeLessThan(5_000)
      expect(detectors.cutCount).toBe(1)
    }
  })

  it('checks digits as the standards do: one wrong digit is found', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('4111111111111111', '378282246310005'),
        fc.nat(),
        fc.integer({ min: 1, max: 9 }),
        (digits, position, change) => {
          const at = position % digits.length
          const wrong = (Number(digits[at]) + change) % 10
          expect(luhn(`${digits.slice(0, at)}${wrong}${digits.slice(at + 1)}`)).toBe(false)
        },
      ),
    )
    expect(isIban('NO9386011117947')).toBe(true)
    expect(isIban('NO9386011117946')).toBe(false)
  })
})
