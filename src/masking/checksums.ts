/**
 * Check digits of the numbers that the value detectors look for. A pattern alone finds order
 * numbers; with its checksum it finds what it is meant to. Pure functions over digits as text.
 */

/** Luhn (ISO/IEC 7812-1, annex B). */
export function luhn(digits: string): boolean {
  let sum = 0
  for (let index = 0; index < digits.length; index += 1) {
    let digit = digits.charCodeAt(digits.length - 1 - index) - 48
    if (index % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2
    sum += digit
  }
  return digits.length > 0 && sum % 10 === 0
}

/** Issuer ranges of payment cards with the lengths they use. */
const CARDS: readonly (readonly [RegExp, readonly number[]])[] = [
  [/^4/, [13, 16, 19]],
  [/^(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  [/^3[47]/, [15]],
  [/^(?:30[0-5]|36|38|39)/, [14, 16, 19]],
  [/^(?:6011|64[4-9]|65)/, [16, 19]],
  [/^35(?:2[89]|[3-8])/, [16, 19]],
  [/^62/, [16, 17, 18, 19]],
  [/^(?:5018|5020|5038|5893|6304|6759|676[1-3])/, [13, 14, 15, 16, 17, 18, 19]],
]

/** A payment card number, without separators. */
export function isCard(digits: string): boolean {
  return (
    luhn(digits) &&
    CARDS.some(([prefix, lengths]) => prefix.test(digits) && lengths.includes(digits.length))
  )
}

/** Length of an IBAN by country (SWIFT IBAN registry). */
const IBAN_LENGTHS: Readonly<Record<string, number>> = {
  AD: 24, AE: 23, AL: 28, AT: 20, AZ: 28, BA: 20, BE: 16, BG: 22, BH: 22, BR: 29, BY: 28, CH: 21,
  CR: 22, CY: 28, CZ: 24, DE: 22, DK: 18, DO: 28, EE: 20, EG: 29, ES: 24, FI: 18, FO: 18, FR: 27,
  GB: 22, GE: 22, GI: 23, GL: 18, GR: 27, GT: 28, HR: 21, HU: 28, IE: 22, IL: 23, IQ: 23, IS: 26,
  IT: 27, JO: 30, KW: 30, KZ: 20, LB: 28, LC: 32, LI: 21, LT: 20, LU: 20, LV: 21, MC: 27, MD: 24,
  ME: 22, MK: 19, MR: 27, MT: 31, MU: 30, NL: 18, NO: 15, PK: 24, PL: 28, PS: 29, PT: 25, QA: 29,
  RO: 24, RS: 22, SA: 24, SC: 31, SE: 24, SI: 19, SK: 24, SM: 27, ST: 25, SV: 28, TL: 23, TN: 24,
  TR: 26, UA: 29, VA: 22, VG: 24, XK: 20,
} // prettier-ignore

/** ISO 13616: rearranged, letters as numbers, remainder 1 by 97. */
export function isIban(text: string): boolean {
  const iban = text.toUpperCase()
  if (iban.length !== IBAN_LENGTHS[iban.slice(0, 2)]) return false
  const moved = iban.slice(4) + iban.slice(0, 4)
  return (
    remainder(
      moved.replace(/[A-Z]/g, (letter) => String(letter.charCodeAt(0) - 55)),
      97,
    ) === 1
  )
}

function remainder(digits: string, modulus: number): number {
  let rest = 0
  for (const digit of digits) rest = (rest * 10 + Number(digit)) % modulus
  return rest
}

function weighted(digits: string, weights: readonly number[]): number {
  let sum = 0
  for (const [index, weight] of weights.entries()) sum += Number(digits[index]) * weight
  return sum
}

/** Spain, DNI: the letter is the number modulo 23. */
export function isDni(text: string): boolean {
  return 'TRWAGMYFPDXBNJZSQVHLCKE'[Number(text.slice(0, 8)) % 23] === text[8]?.toUpperCase()
}

/** Brazil, CPF: two check digits modulo 11. */
export function isCpf(digits: string): boolean {
  if (/^(\d)\1*$/.test(digits)) return false
  const check = (count: number): number => {
    const weights = Array.from({ length: count }, (_, index) => count + 1 - index)
    return ((weighted(digits, weights) * 10) % 11) % 10
  }
  return check(9) === Number(digits[9]) && check(10) === Number(digits[10])
}

/** Poland, PESEL: a date and weights 1 3 7 9. */
export function isPesel(digits: string): boolean {
  const month = Number(digits.slice(2, 4)) % 20
  const day = Number(digits.slice(4, 6))
  if (month < 1 || month > 12 || day < 1 || day > 31) return false
  const sum = weighted(digits, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3])
  return (10 - (sum % 10)) % 10 === Number(digits[10])
}

/** France, NIR: 13 digits and 97 minus their remainder (Corsica's letters are not looked for). */
export function isNir(digits: string): boolean {
  const month = Number(digits.slice(3, 5))
  if (!/^[12]/.test(digits) || month < 1 || (month > 12 && month < 20)) return false
  return 97 - remainder(digits.slice(0, 13), 97) === Number(digits.slice(13))
}

/** Sweden, personnummer (YYMMDD-NNNC): a date and Luhn. */
export function isPersonnummer(digits: string): boolean {
  const month = Number(digits.slice(2, 4))
  const day = Number(digits.slice(4, 6)) % 60
  return month >= 1 && month <= 12 && day >= 1 && day <= 31 && luhn(digits)
}

/** Finland, henkilötunnus (DDMMYY-NNNC): the number modulo 31. */
export function isHetu(text: string): boolean {
  const number = Number(text.slice(0, 6) + text.slice(7, 10))
  return '0123456789ABCDEFHJKLMNPRSTUVWXY'[number % 31] === text[10]?.toUpperCase()
}

/** United Kingdom, NHS number: weights 10 to 2 modulo 11. */
export function isNhs(digits: string): boolean {
  const rest = 11 - (weighted(digits, [10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11)
  return rest !== 10 && rest % 11 === Number(digits[9])
}
