// Numbers as they are written everywhere; words.py writes them in the same way in prose,
// and tests/formats.json holds both to that.

/** @param {string} text */
export const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)

/** @param {number} index */
export const subscript = (index) => String(index).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)])

/** @param {number} exponent */
const superscript = (exponent) => String(exponent).replace(/./g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)] ?? "⁻")

/**
 * A measured number: 1.20, 5.00 · 10⁻⁴.
 * @param {number} value
 */
export const number = (value) => {
  if (value === 0) return "0"
  if (!Number.isFinite(value)) return "not a number"
  const [mantissa, exponent] = value.toExponential(2).split("e")
  const power = Number(exponent)
  const text = power >= -3 && power < 3 ? value.toPrecision(3) : `${mantissa} · 10${superscript(power)}`
  return text.replace("-", "−")
}

/**
 * A measured number, and how far it may be off.
 * @param {number} value
 * @param {number} error
 */
export const withError = (value, error) => number(value) + (error > 0 ? ` ± ${number(error)}` : "")

/**
 * A share: 62 %, 3.1 %, below 0.1 %, and never 100 % for what is less.
 * @param {number} share
 */
export const percent = (share) => {
  const value = 100 * share
  if (!Number.isFinite(value)) return "–"
  if (value === 0 || (value >= 9.95 && value < 99.5) || value >= 99.95) return `${value.toFixed(0)}\u00a0%`
  return value < 0.1 ? "below 0.1\u00a0%" : `${value.toFixed(1)}\u00a0%`
}
