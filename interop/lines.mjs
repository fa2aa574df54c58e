// How a peer of these folders is spoken to: one command a line on standard input, JSON lines on standard output.
//
// Each command is answered by exactly one line, `{"answer":N,…}` with the number of the command, from 1, or
// `{"answer":N,"error":"…"}`. They run one after the other, but those in `unqueued` are answered when they are done, and
// the next ones do not wait. `quit`, or the end of the input, ends the process. Lines with `event` come by themselves;
// each has `at`, in milliseconds since 1970. Bytes are `{"hex":"…"}`.
import { createInterface } from 'node:readline'

const shown = (_, value) => (value instanceof Uint8Array ? { hex: Buffer.from(value).toString('hex') } : value)
const print = value => process.stdout.write(JSON.stringify(value, shown) + '\n')

export const words = error => String(error?.message || error)

export function event(name, value = {}) {
  print({ event: name, at: performance.timeOrigin + performance.now(), ...value })
}

// What comes from the network must not end the peer, as it would not end an application; but it is told.
export function tellErrors() {
  process.on('uncaughtException', error => event('error', { where: 'uncaught', error: words(error) }))
  process.on('unhandledRejection', error => event('error', { where: 'unhandled', error: words(error) }))
  console.error = (...what) => event('error', { where: 'console', error: what.map(words).join(' ') })
}

async function run(commands, number, line) {
  const [name, ...parts] = line.split(' ')
  const started = performance.now()
  try {
    if (!Object.hasOwn(commands, name)) throw new Error(`no such command: ${name}`)
    const answer = await commands[name](parts, line.slice(name.length + 1))
    print({ answer: number, ms: performance.now() - started, ...answer })
  } catch (error) {
    print({ answer: number, error: words(error) })
  }
  if (name === 'quit') process.exit(0)
}

// `commands`: name to a function of the words behind it and of the same as one text.
export function serve(commands, unqueued = []) {
  let queue = Promise.resolve()
  let received = 0
  const take = line => {
    const number = ++received
    const start = () => run(commands, number, line)
    // Whoever need not wait for it starts in its turn all the same.
    queue = queue.then(() => (unqueued.includes(line.split(' ', 1)[0]) ? void start() : start()))
  }
  createInterface({ input: process.stdin }).on('line', take).on('close', () => take('quit'))
}
