// An independent NIP-17 client for the interop tests: everything cryptographic comes from nostr-tools.
//
//   node dm.mjs send <relay> <recipient npub|nprofile|hex> <sender secret hex> <text, or - for standard input>
//   node dm.mjs recv <relay> <secret hex> [--auth | --no-auth]
//   node dm.mjs seal <recipient> <sender secret hex>        text on standard input, wrap on standard output
//   node dm.mjs open <secret hex>                           wraps, one per line, on standard input
//   node dm.mjs bench <n>                                   median times to unwrap a 200-byte message, in µs
//
// `send` and `recv` answer a relay that asks for NIP-42 authentication. `--auth` authenticates before the first
// request and fails where the relay sends no challenge; `--no-auth` never does. Results are JSON lines on standard
// output, everything else goes to standard error. Exit 0: all done; 1: failed, or a wrap did not open; 2: usage.
// TALKBOX_INTEROP_TIMEOUT_MS bounds each step on the network (default 10,000).
// Secrets stand in the arguments because these are keys of tests: do not copy that.
import * as nip19 from 'nostr-tools/nip19'
import { wrapEvent, unwrapEvent } from 'nostr-tools/nip17'
import { finalizeEvent, generateSecretKey, getEventHash, getPublicKey, verifyEvent } from 'nostr-tools/pure'
import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket) // Node 20 has no global WebSocket.

const STEP_MS = Number(process.env.TALKBOX_INTEROP_TIMEOUT_MS || 10_000)
// Far above what a test needs, so that a hang ends with a message and not with the time-out of the test runner.
const TOTAL_MS = Math.max(60_000, STEP_MS * 6)
// A page is what the relay gives at once; 100 pages of 500 are more than any test stores.
const MAX_PAGES = 100
const MAX_STDIN = 64 * 1024 * 1024

class Usage extends Error {}

const words = error => (error instanceof Error ? error.message : String(error))
const print = value => process.stdout.write(JSON.stringify(value) + '\n')
const note = text => process.stderr.write(text + '\n')

function within(promise, what, ms = STEP_MS) {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no answer within ${ms} ms`)), ms)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

function hex32(text, what) {
  if (!/^[0-9a-f]{64}$/i.test(text ?? '')) throw new Usage(`${what}: 64 hex digits expected`)
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

function publicKey(text) {
  if (/^[0-9a-f]{64}$/i.test(text ?? '')) return text.toLowerCase()
  try {
    const { type, data } = nip19.decode(text.replace(/^nostr:/, ''))
    if (type === 'npub') return data
    if (type === 'nprofile') return data.pubkey
  } catch { /* told below */ }
  throw new Usage('recipient: npub, nprofile or 64 hex digits expected')
}

async function stdin() {
  const chunks = []
  let size = 0
  for await (const chunk of process.stdin) {
    size += chunk.length
    if (size > MAX_STDIN) throw new Error(`standard input: more than ${MAX_STDIN} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

// nostr-tools' unwrap leaves out two checks that matter to a reader: the wrap's own id and signature, and whether the
// rumor's id is the hash of the rumor. An independent judge of our envelopes makes them.
function unwrapStrictly(wrap, secret) {
  if (!verifyEvent(wrap)) throw new Error('the id or signature of the wrap is invalid')
  const rumor = unwrapEvent(wrap, secret)
  if (rumor.id !== getEventHash(rumor)) throw new Error('the id of the rumor is not its hash')
  const { id, pubkey: sender, kind, content, tags, created_at } = rumor
  return { wrap: wrap.id, id, sender, kind, content, tags, created_at }
}

/** Prints the wraps that open, names those that do not, and tells whether all did. Takes events or their JSON. */
function openAll(wraps, secret) {
  let all = true
  for (const item of wraps) {
    let wrap
    try {
      wrap = typeof item === 'string' ? JSON.parse(item) : item
      print(unwrapStrictly(wrap, secret))
    } catch (error) {
      note(`wrap ${wrap?.id ?? '?'}: ${words(error)}`)
      all = false
    }
  }
  return all
}

async function connect(url) {
  const relay = new Relay(url)
  relay.onnotice = text => note(`notice from the relay: ${text}`)
  relay.publishTimeout = STEP_MS
  try {
    await within(relay.connect({ timeout: STEP_MS }), 'connecting')
  } catch (error) {
    throw new Error(`${url}: ${words(error)}`)
  }
  return relay
}

/** Answers the relay's challenge, which may arrive a moment after the connection. */
async function authenticate(relay, secret) {
  const until = Date.now() + Math.min(STEP_MS, 3_000)
  while (!relay.challenge) {
    if (Date.now() > until) throw new Error('the relay sent no challenge to authenticate with')
    await new Promise(done => setTimeout(done, 10))
  }
  await within(relay.auth(async template => finalizeEvent(template, secret)), 'authenticating')
}

const asksForAuth = text => text.startsWith('auth-required:')

async function send(url, recipient, senderSecret, text) {
  const secret = hex32(senderSecret, 'sender secret')
  const to = { publicKey: publicKey(recipient) }
  if (text === undefined) throw new Usage('send: text expected')
  const wrap = wrapEvent(secret, to, text === '-' ? await stdin() : text)
  const relay = await connect(url)
  let answer
  try {
    answer = await within(relay.publish(wrap), 'publishing')
  } catch (error) {
    if (!asksForAuth(words(error))) throw new Error(`the relay refused the wrap: ${words(error)}`)
    await authenticate(relay, secret)
    answer = await within(relay.publish(wrap), 'publishing after authentication')
  }
  relay.close()
  print({ wrap: wrap.id, ok: true, message: answer ?? '' })
  return true
}

/** One REQ to its end. nostr-tools invents an EOSE after a while, so its own limit is put out of reach. */
function fetchPage(relay, filter) {
  const events = []
  let subscription
  const page = new Promise((resolve, reject) => {
    subscription = relay.subscribe([filter], {
      eoseTimeout: TOTAL_MS * 2,
      onevent: event => events.push(event),
      oninvalidevent: event => note(`the relay sent an event that does not verify or match: ${event?.id}`),
      oneose: () => resolve(events),
      onclose: reason => reject(new Error(reason)),
    })
  })
  return within(page, 'reading').finally(() => subscription.close())
}

async function fetchAll(relay, owner) {
  const found = new Map()
  let until
  for (let page = 0; page < MAX_PAGES; page++) {
    const filter = { kinds: [1059], '#p': [owner], ...(until === undefined ? {} : { until }) }
    const events = await fetchPage(relay, filter)
    const fresh = events.filter(event => !found.has(event.id))
    if (fresh.length === 0) return [...found.values()]
    for (const event of fresh) found.set(event.id, event)
    until = Math.min(...events.map(event => event.created_at))
  }
  throw new Error(`more than ${MAX_PAGES} pages`)
}

async function recv(url, ownSecret, mode) {
  const secret = hex32(ownSecret, 'secret')
  if (![undefined, '--auth', '--no-auth'].includes(mode)) throw new Usage(`recv: unknown option ${mode}`)
  const owner = getPublicKey(secret)
  const relay = await connect(url)
  if (mode === '--auth') await authenticate(relay, secret)
  let wraps
  try {
    wraps = await fetchAll(relay, owner)
  } catch (error) {
    if (mode !== undefined || !asksForAuth(words(error))) throw error
    await authenticate(relay, secret)
    wraps = await fetchAll(relay, owner)
  }
  relay.close()
  return openAll(wraps, secret)
}

async function seal(recipient, senderSecret) {
  const to = { publicKey: publicKey(recipient) }
  const secret = hex32(senderSecret, 'sender secret')
  print(wrapEvent(secret, to, await stdin()))
  return true
}

async function open(ownSecret) {
  const secret = hex32(ownSecret, 'secret')
  const lines = (await stdin()).split('\n').filter(line => line.trim() !== '')
  if (lines.length === 0) throw new Error('open: no wrap on standard input')
  return openAll(lines, secret)
}

async function bench(count) {
  const n = Number(count)
  if (!Number.isInteger(n) || n < 1 || n > 100_000) throw new Usage('bench: a number from 1 to 100000 expected')
  const sender = generateSecretKey()
  const owner = generateSecretKey()
  const to = { publicKey: getPublicKey(owner) }
  const deadline = performance.now() + 600_000
  // The first calls build the tables of the curve and wake the compiler: they are not what is measured.
  for (let i = 0; i < Math.min(n, 20); i++) unwrapEvent(wrapEvent(sender, to, 'x'.repeat(200)), owner)
  const [times, cpuTimes] = [[], []]
  for (let i = 0; i < n; i++) {
    if (performance.now() > deadline) throw new Error(`bench: only ${i} of ${n} within 600 s`)
    // Through JSON, because nostr-tools remembers on the object that an event was verified.
    const wrap = JSON.parse(JSON.stringify(wrapEvent(sender, to, `${i} `.padEnd(200, 'x'))))
    const [start, cpuStart] = [performance.now(), process.cpuUsage()]
    unwrapEvent(wrap, owner)
    const cpu = process.cpuUsage(cpuStart)
    times.push((performance.now() - start) * 1000)
    cpuTimes.push(cpu.user + cpu.system)
  }
  const median = values => Math.round(values.sort((a, b) => a - b)[n >> 1])
  print({ n, node: process.version, unwrap_us: median(times), unwrap_cpu_us: median(cpuTimes) })
  return true
}

const [command, ...args] = process.argv.slice(2)
const commands = { send, recv, seal, open, bench }
if (command !== 'bench') {
  setTimeout(() => {
    note(`${command}: not done within ${TOTAL_MS} ms`)
    process.exit(1)
  }, TOTAL_MS).unref()
}
try {
  const run = Object.hasOwn(commands, command ?? '') ? commands[command] : undefined
  if (!run) throw new Usage(`usage: dm.mjs ${Object.keys(commands).join(' | ')} … (the head of the file explains each)`)
  const all = await run(...args)
  // The socket's closing handshake may still be under way: nothing is left to wait for.
  process.exit(all ? 0 : 1)
} catch (error) {
  note(words(error))
  process.exit(error instanceof Usage ? 2 : 1)
}
