/** A seeded generator for the fuzzers (sfc32): the same seed gives the same run on any machine. */
export class Random {
  #a: number
  #b: number
  #c: number
  #d = 1

  constructor(seed: number) {
    this.#a = seed >>> 0
    this.#b = (seed ^ 0x9e3779b9) >>> 0
    this.#c = Math.imul(seed | 1, 0x85ebca6b) >>> 0
    for (let i = 0; i < 15; i++) this.u32()
  }

  u32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  /** 0 ≤ n < max. */
  below(max: number): number {
    return max <= 0 ? 0 : this.u32() % max
  }

  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length)
    for (let i = 0; i < length; i++) bytes[i] = this.u32()
    return bytes
  }
}
