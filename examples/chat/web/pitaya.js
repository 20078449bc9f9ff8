// @ts-check
/**
 * A Pitaya client for browsers: the Pitaya/pomelo protocol over a WebSocket, with JSON bodies.
 *
 * ```js
 * import { PitayaClient } from './pitaya.js';
 *
 * const client = new PitayaClient();
 * client.on('onMessage', (message) => console.log(message));
 * await client.connect('wss://game.example.com/', { user: { level: 3 }, reconnect: true });
 * const room = await client.request('room.room.join', { room: 'garden' });
 * client.notify('room.room.typing', {});
 * ```
 *
 * The file has three layers, each usable alone: the codec (pure functions on bytes), `Connection` (one WebSocket from
 * handshake to close) and `PitayaClient` (requests, pushes, reconnecting).
 *
 * @module pitaya
 */

/** Version of this library, as told to the server in the handshake. */
export const VERSION = '0.1.0';

// ---------------------------------------------------------------------------------------------------------------------
// Errors

/** Codes that this library itself puts into a {@link PitayaError}; a server adds its own. */
export const ErrorCode = Object.freeze({
  /** Bytes or a body that break the protocol. */
  UNKNOWN: 'PIT-000',
  /** A call that cannot be sent as it is, or a handshake that the server refused. */
  BAD_REQUEST: 'PIT-400',
  /** There is no connection, or it ended before the answer came. */
  CLOSED: 'PIT-499',
  /** No answer in time. */
  TIMEOUT: 'PIT-504',
});

/** Says why a call or a connection failed: an answer of the server, or a failure on the way. */
export class PitayaError extends Error {
  /**
   * @param {string} code For example `PIT-404`, or a code of the application.
   * @param {string} message For people.
   * @param {Record<string, string>} [metadata] Details that the server added.
   */
  constructor(code, message, metadata = {}) {
    super(message);
    this.name = 'PitayaError';
    this.code = code;
    this.metadata = metadata;
  }
}

/** @param {string} what @returns {PitayaError} */
const malformed = (what) => new PitayaError(ErrorCode.UNKNOWN, `malformed data from the server: ${what}`);

/** @param {unknown} error @returns {PitayaError} */
const asPitayaError = (error) =>
  error instanceof PitayaError
    ? error
    : new PitayaError(ErrorCode.UNKNOWN, error instanceof Error ? error.message : String(error));

// ---------------------------------------------------------------------------------------------------------------------
// Codec: packets

/** Kinds of packets: the first byte on the wire. */
export const PacketType = Object.freeze({ HANDSHAKE: 1, HANDSHAKE_ACK: 2, HEARTBEAT: 3, DATA: 4, KICK: 5 });

/** The largest body that the three length bytes of a packet can announce. */
export const MAX_PACKET_BODY = 0xffffff;

const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Encodes one packet: type, three bytes of length, body.
 *
 * @param {number} type One of {@link PacketType}.
 * @param {Uint8Array} [body]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodePacket(type, body = EMPTY) {
  if (body.length > MAX_PACKET_BODY) {
    throw new PitayaError(ErrorCode.BAD_REQUEST, `a packet holds ${MAX_PACKET_BODY} bytes, not ${body.length}`);
  }
  const bytes = new Uint8Array(4 + body.length);
  bytes.set([type, body.length >> 16, (body.length >> 8) & 0xff, body.length & 0xff]);
  bytes.set(body, 4);
  return bytes;
}

/**
 * Decodes a WebSocket message, which holds exactly one packet.
 *
 * @param {Uint8Array} bytes
 * @returns {{type: number, body: Uint8Array}}
 */
export function decodePacket(bytes) {
  if (bytes.length < 4) throw malformed('a packet of less than four bytes');
  const type = bytes[0];
  if (type < PacketType.HANDSHAKE || type > PacketType.KICK) throw malformed(`packet type ${type}`);
  const length = (bytes[1] << 16) | (bytes[2] << 8) | bytes[3];
  if (bytes.length !== 4 + length) {
    throw malformed(`a packet that announces ${length} bytes and has ${bytes.length - 4}`);
  }
  return { type, body: bytes.subarray(4) };
}

// ---------------------------------------------------------------------------------------------------------------------
// Codec: messages

/** Kinds of messages, as in the flag byte. */
export const MessageType = Object.freeze({ REQUEST: 0, NOTIFY: 1, RESPONSE: 2, PUSH: 3 });

const FLAG_ROUTE_CODE = 0x01;
const FLAG_COMPRESSED = 0x10;
const FLAG_ERROR = 0x20;

/**
 * A message: the body of a Data packet.
 *
 * @typedef {object} Message
 * @property {number} type One of {@link MessageType}.
 * @property {number} id Of a request and its response, else 0.
 * @property {string} route Empty in a response.
 * @property {Uint8Array} body
 * @property {boolean} compressed The body is still a zlib stream.
 * @property {boolean} error The body is an error.
 */

/** Short codes for routes, agreed in the handshake. */
export class RouteDictionary {
  /** @param {unknown} [dict] `sys.dict` of the handshake: an object from route to code. */
  constructor(dict = {}) {
    /** @type {Map<string, number>} */
    this.codes = new Map();
    /** @type {Map<number, string>} */
    this.routes = new Map();
    if (typeof dict !== 'object' || dict === null || Array.isArray(dict)) throw malformed('the route dictionary');
    for (const [route, code] of Object.entries(dict)) {
      if (!Number.isInteger(code) || code < 1 || code > 0xffff || this.routes.has(code)) {
        throw malformed(`code ${code} of route ${route}`);
      }
      this.codes.set(route, code);
      this.routes.set(code, route);
    }
  }
}

const NO_DICTIONARY = new RouteDictionary();

/** @param {number} type @returns {boolean} */
const hasId = (type) => type === MessageType.REQUEST || type === MessageType.RESPONSE;

/**
 * Encodes a message. Bodies are sent as they are, never compressed.
 *
 * @param {{type: number, id?: number, route?: string, body?: Uint8Array, error?: boolean}} message
 * @param {RouteDictionary} [dictionary]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodeMessage({ type, id = 0, route = '', body = EMPTY, error = false }, dictionary = NO_DICTIONARY) {
  const head = [(type << 1) | (error ? FLAG_ERROR : 0)];
  if (hasId(type)) {
    let rest = id;
    for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) head.push((rest % 0x80) | 0x80);
    head.push(rest);
  }
  if (type !== MessageType.RESPONSE) {
    const code = dictionary.codes.get(route);
    if (code === undefined) {
      const name = encoder.encode(route);
      if (name.length > 0xff) throw new PitayaError(ErrorCode.BAD_REQUEST, 'a route holds at most 255 bytes');
      head.push(name.length, ...name);
    } else {
      head[0] |= FLAG_ROUTE_CODE;
      head.push(code >> 8, code & 0xff);
    }
  }
  const bytes = new Uint8Array(head.length + body.length);
  bytes.set(head);
  bytes.set(body, head.length);
  return bytes;
}

/**
 * Decodes a message. Everything that does not fit is an error: nothing is guessed.
 *
 * @param {Uint8Array} bytes
 * @param {RouteDictionary} [dictionary]
 * @returns {Message}
 */
export function decodeMessage(bytes, dictionary = NO_DICTIONARY) {
  if (bytes.length < 2) throw malformed('a message of less than two bytes');
  let at = 0;
  /** @param {number} count @param {string} what @returns {Uint8Array} */
  const take = (count, what) => {
    if (at + count > bytes.length) throw malformed(`${what} runs past the end`);
    return bytes.subarray(at, (at += count));
  };

  const [flags] = take(1, 'the flag');
  const type = (flags >> 1) & 0x07;
  if (type > MessageType.PUSH) throw malformed(`message type ${type}`);

  let id = 0;
  if (hasId(type)) {
    // Little-endian, seven bits a byte. Eight bytes are more than the 53 bits that a number holds exactly.
    for (let factor = 1; ; factor *= 0x80) {
      const [byte] = take(1, 'the id');
      id += (byte & 0x7f) * factor;
      if (id > Number.MAX_SAFE_INTEGER) throw malformed('an id above 2^53');
      if (byte < 0x80) {
        if (byte === 0 && factor > 1) throw malformed('an id with needless bytes');
        break;
      }
      if (factor >= 2 ** 49) throw malformed('an id of more than eight bytes');
    }
  }

  let route = '';
  if (type !== MessageType.RESPONSE) {
    if (flags & FLAG_ROUTE_CODE) {
      const [high, low] = take(2, 'the route code');
      const known = dictionary.routes.get((high << 8) | low);
      if (known === undefined) throw malformed(`unknown route code ${(high << 8) | low}`);
      route = known;
    } else {
      const [length] = take(1, 'the length of the route');
      route = utf8(take(length, 'the route'), 'the route');
    }
  }
  return {
    type,
    id,
    route,
    body: bytes.subarray(at),
    compressed: (flags & FLAG_COMPRESSED) !== 0,
    error: (flags & FLAG_ERROR) !== 0,
  };
}

/** @param {Uint8Array} bytes @param {string} what @returns {string} */
function utf8(bytes, what) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw malformed(`${what} is not UTF-8`);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Codec: bodies

/** @param {unknown} value `undefined` is the empty body. @returns {Uint8Array} */
const encodeJson = (value) => (value === undefined ? EMPTY : encoder.encode(JSON.stringify(value)));

/** @param {Uint8Array} bytes @returns {any} `undefined` for an empty body. */
function decodeJson(bytes) {
  if (bytes.length === 0) return undefined;
  const text = utf8(bytes, 'the body');
  try {
    return JSON.parse(text);
  } catch {
    throw malformed('the body is not JSON');
  }
}

/** How much compressed data is handed to the inflater at a time: it expands about a thousand times at most. */
const INFLATE_STEP = 4096;

/**
 * Inflates a zlib stream and stops as soon as the output is larger than `limit`.
 *
 * @param {Uint8Array} bytes
 * @param {number} limit
 * @returns {Promise<Uint8Array>}
 */
export async function inflate(bytes, limit) {
  let at = 0;
  const source = new ReadableStream(
    {
      pull(controller) {
        if (at < bytes.length) controller.enqueue(bytes.slice(at, (at += INFLATE_STEP)));
        else controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  const reader = source.pipeThrough(new DecompressionStream('deflate')).getReader();
  /** @type {Uint8Array[]} */
  const chunks = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read().catch(() => {
      throw malformed('a compressed body that cannot be inflated');
    });
    if (done) break;
    chunks.push(value);
    size += value.length;
    if (size > limit) {
      reader.cancel().catch(() => {});
      throw malformed(`a compressed body of more than ${limit} bytes`);
    }
  }
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(size);
  let end = 0;
  for (const chunk of chunks) {
    whole.set(chunk, end);
    end += chunk.length;
  }
  return whole;
}

/** @param {Uint8Array} body @returns {boolean} A handshake says by its first two bytes that it is compressed. */
const looksLikeZlib = (body) => body.length > 2 && body[0] === 0x78 && [0x01, 0x5e, 0x9c, 0xda].includes(body[1]);

// ---------------------------------------------------------------------------------------------------------------------
// Connection: one WebSocket, from the handshake to the close

/**
 * @typedef {object} ConnectionEvents
 * @property {() => void} opened The handshake is done: messages may flow.
 * @property {(message: Message) => void} message A message, in the order of arrival, its body inflated.
 * @property {() => void} kicked The server sent the client away; `closed` follows.
 * @property {(error: PitayaError) => void} closed The end, exactly once, whether it was open before or not.
 */

/** The longest time that a timer of a browser can wait. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Intervals without any packet after which a connection counts as dead. */
const SILENT_INTERVALS = 3;

/** @param {Settings} settings @returns {WebSocket} */
function openSocket(settings) {
  try {
    return new settings.WebSocket(settings.url);
  } catch (error) {
    throw new PitayaError(ErrorCode.BAD_REQUEST, error instanceof Error ? error.message : String(error));
  }
}

class Connection {
  /** @type {Settings} */ #settings;
  /** @type {ConnectionEvents} */ #events;
  /** @type {WebSocket} */ #socket;
  /** Known from the handshake on: its presence says that messages may flow. @type {RouteDictionary | undefined} */
  #dictionary;
  /** Incoming packets, in order, while one of them is being inflated. */
  #inbox = Promise.resolve();
  #ended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #deadline;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticker;
  /** Milliseconds; 0 turns heartbeats off. */
  #interval = 0;
  #lastReceived = 0;
  #lastHeartbeat = 0;

  /** @param {Settings} settings @param {ConnectionEvents} events */
  constructor(settings, events) {
    this.#settings = settings;
    this.#events = events;
    const socket = openSocket(settings);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#sendHandshake();
    socket.onmessage = (event) => this.#receive(event.data);
    // Behind the packets that arrived before: they are delivered first.
    socket.onclose = () => this.#enqueue(() => this.close(new PitayaError(ErrorCode.CLOSED, this.#lost())));
    this.#socket = socket;
    this.#deadline = setTimeout(
      () => this.close(new PitayaError(ErrorCode.TIMEOUT, `no handshake within ${settings.connectTimeout} ms`)),
      Math.min(settings.connectTimeout, LONGEST_TIMER),
    );
  }

  /** @param {Parameters<typeof encodeMessage>[0]} message */
  send(message) {
    this.#write(encodePacket(PacketType.DATA, encodeMessage(message, this.#dictionary)));
  }

  /** Ends the connection. Only the first call counts. @param {PitayaError} error */
  close(error) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#deadline);
    clearInterval(this.#ticker);
    this.#socket.close();
    this.#events.closed(error);
  }

  #lost() {
    return this.#dictionary ? 'the connection was lost' : `no connection to ${this.#settings.url}`;
  }

  /** @param {Uint8Array<ArrayBuffer>} packet */
  #write(packet) {
    // A socket that is closing has not told us yet: what we write is lost, and the close event follows.
    if (!this.#ended && this.#socket.readyState === this.#socket.OPEN) this.#socket.send(packet);
  }

  #sendHandshake() {
    const { sys, user } = this.#settings;
    this.#write(encodePacket(PacketType.HANDSHAKE, encodeJson({ sys, user })));
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#lastReceived = performance.now();
    this.#heartbeatIfDue();
    this.#enqueue(() => this.#open(data));
  }

  /**
   * Runs a step after all steps before it. What it throws ends the connection.
   *
   * @param {() => void | Promise<void>} step
   */
  #enqueue(step) {
    this.#inbox = this.#inbox
      .then(() => (this.#ended ? undefined : step()))
      .catch((error) => this.close(asPitayaError(error)));
  }

  /** @param {unknown} data @returns {void | Promise<void>} */
  #open(data) {
    if (!(data instanceof ArrayBuffer)) throw malformed('a text message');
    const { type, body } = decodePacket(new Uint8Array(data));
    if (type === PacketType.HANDSHAKE && !this.#dictionary) return this.#handshake(body);
    if (type === PacketType.HEARTBEAT && this.#dictionary) return undefined;
    if (type === PacketType.DATA && this.#dictionary) return this.#message(decodeMessage(body, this.#dictionary));
    if (type === PacketType.KICK) {
      this.#events.kicked();
      return this.close(new PitayaError(ErrorCode.CLOSED, 'the server ended the session'));
    }
    throw malformed(`packet type ${type} at this point`);
  }

  /** @param {Uint8Array} body */
  async #handshake(body) {
    const answer = decodeJson(looksLikeZlib(body) ? await inflate(body, this.#settings.maxBody) : body);
    if (answer?.code !== 200) {
      throw new PitayaError(ErrorCode.BAD_REQUEST, `the server refused the handshake with code ${answer?.code}`);
    }
    const { heartbeat = 0, dict, serializer = 'json' } = answer.sys ?? {};
    if (serializer !== 'json') {
      throw new PitayaError(ErrorCode.BAD_REQUEST, `the server speaks ${serializer}, this client speaks json`);
    }
    if (!Number.isFinite(heartbeat)) throw malformed('the heartbeat interval');
    const dictionary = new RouteDictionary(dict ?? {});
    if (this.#ended) return;

    this.#dictionary = dictionary;
    clearTimeout(this.#deadline);
    this.#write(encodePacket(PacketType.HANDSHAKE_ACK));
    this.#startHeartbeats(heartbeat * 1000);
    this.#events.opened();
  }

  /** @param {Message} message @returns {void | Promise<void>} */
  #message(message) {
    if (message.type !== MessageType.RESPONSE && message.type !== MessageType.PUSH) {
      throw malformed(`message type ${message.type} from a server`);
    }
    if (!message.compressed) return this.#events.message(message);
    return inflate(message.body, this.#settings.maxBody).then((body) => {
      if (!this.#ended) this.#events.message({ ...message, body, compressed: false });
    });
  }

  /** @param {number} interval */
  #startHeartbeats(interval) {
    if (interval <= 0) return;
    this.#interval = Math.min(interval, LONGEST_TIMER);
    this.#lastReceived = this.#lastHeartbeat = performance.now();
    this.#ticker = setInterval(() => {
      const silence = performance.now() - this.#lastReceived;
      if (silence > SILENT_INTERVALS * this.#interval) {
        this.close(new PitayaError(ErrorCode.CLOSED, `nothing from the server for ${Math.round(silence)} ms`));
      } else {
        this.#heartbeatIfDue();
      }
    }, this.#interval);
  }

  /**
   * Sends a heartbeat if the last one is an interval ago. Called by the ticker and by each packet: browsers slow the
   * timers of hidden tabs down to one a minute, and then the heartbeats of the server keep ours going.
   */
  #heartbeatIfDue() {
    const now = performance.now();
    // A timer may be a little early; a tenth is not worth waiting a whole interval more.
    if (this.#interval === 0 || now - this.#lastHeartbeat < 0.9 * this.#interval) return;
    this.#lastHeartbeat = now;
    this.#write(encodePacket(PacketType.HEARTBEAT));
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Client

/**
 * How to come back after a lost connection. The wait before attempt `n` is a random time between half and all of
 * `minDelay * 2^(n-1)`, and never more than `maxDelay`.
 *
 * @typedef {object} ReconnectOptions
 * @property {number} [minDelay] Milliseconds, default 500.
 * @property {number} [maxDelay] Milliseconds, default 15 000.
 * @property {number} [attempts] Give up after so many in a row, default never.
 * @property {boolean} [first] Also when the very first attempt of `connect` fails, default false.
 */

/**
 * @typedef {object} ConnectOptions
 * @property {Record<string, unknown>} [user] Free data for the server, sent in the handshake.
 * @property {Partial<SysInfo>} [sys] What to tell the server about this client.
 * @property {number} [connectTimeout] Milliseconds for connecting and the handshake together, default 10 000.
 * @property {number} [requestTimeout] Milliseconds to wait for an answer, default 5 000; `Infinity` waits.
 * @property {number} [maxBody] Largest inflated body in bytes, default as large as a plain one can be.
 * @property {boolean | ReconnectOptions} [reconnect] Default false.
 * @property {typeof WebSocket} [WebSocket] Another implementation, for tests and other runtimes.
 */

/**
 * @typedef {object} SysInfo
 * @property {string} platform
 * @property {string} libVersion
 * @property {string} clientBuildNumber
 * @property {string} clientVersion
 */

/**
 * @typedef {object} Settings
 * @property {string} url
 * @property {Record<string, unknown>} user
 * @property {SysInfo} sys
 * @property {number} connectTimeout
 * @property {number} requestTimeout
 * @property {number} maxBody
 * @property {Required<ReconnectOptions> | undefined} reconnect
 * @property {typeof WebSocket} WebSocket
 */

/** @param {string} url @param {ConnectOptions} options @returns {Settings} */
function settingsFrom(url, { reconnect, ...options }) {
  return {
    url,
    user: options.user ?? {},
    sys: {
      platform: 'web',
      libVersion: `${VERSION}-js`,
      clientBuildNumber: '1',
      clientVersion: VERSION,
      ...options.sys,
    },
    connectTimeout: options.connectTimeout ?? 10_000,
    requestTimeout: options.requestTimeout ?? 5_000,
    maxBody: options.maxBody ?? MAX_PACKET_BODY,
    reconnect: reconnect
      ? {
          minDelay: 500,
          maxDelay: 15_000,
          attempts: Infinity,
          first: false,
          ...(reconnect === true ? {} : reconnect),
        }
      : undefined,
    WebSocket: options.WebSocket ?? globalThis.WebSocket,
  };
}

/**
 * @typedef {'closed' | 'connecting' | 'open' | 'reconnecting'} ClientState
 *
 * @typedef {object} CloseEvent
 * @property {PitayaError} error Why.
 * @property {boolean} willReconnect Whether the client tries to come back by itself.
 *
 * @typedef {object} ReconnectingEvent
 * @property {number} attempt Counted from 1.
 * @property {number} delay Milliseconds until the attempt.
 * @property {PitayaError} error Why the last connection or attempt failed.
 */

/**
 * Listeners for one kind of event. A listener that throws is reported to the console and harms nobody else.
 *
 * @template T
 */
class Listeners {
  /** @type {Set<(event: T) => void>} */ #listeners = new Set();

  /** @param {(event: T) => void} listener @returns {() => void} Takes the listener away again. */
  add(listener) {
    // A function may be added twice; each of its two removals takes one.
    const own = (/** @type {T} */ event) => listener(event);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** @param {T} event */
  emit(event) {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/**
 * A client of one Pitaya frontend server.
 *
 * Pushes and answers are delivered in the order in which they arrived. A request that is under way when the connection
 * ends is rejected and not repeated: only the application knows whether the server has already done it.
 */
export class PitayaClient {
  /** @type {ClientState} */ #state = 'closed';
  /** @type {Settings | undefined} */ #settings;
  /** @type {Connection | undefined} */ #connection;
  /** Ends the waiting of the current `connect`, set while not closed. */
  #stop = new AbortController();
  /** Ends the wait before the next attempt. @type {() => void} */
  #wake = () => {};
  #nextId = 1;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: PitayaError) => void, timer: any}>} */
  #pending = new Map();
  /** @type {Map<string, Listeners<any>>} */ #routes = new Map();
  #kicks = /** @type {Listeners<void>} */ (new Listeners());
  #closes = /** @type {Listeners<CloseEvent>} */ (new Listeners());
  #reconnectings = /** @type {Listeners<ReconnectingEvent>} */ (new Listeners());
  #reconnects = /** @type {Listeners<void>} */ (new Listeners());
  #failures = /** @type {Listeners<PitayaError>} */ (new Listeners());

  /** What the client is doing now. */
  get state() {
    return this.#state;
  }

  /**
   * Connects and shakes hands. Fulfilled when requests can be made.
   *
   * @param {string} url `ws://` or `wss://`
   * @param {ConnectOptions} [options]
   * @returns {Promise<void>}
   */
  async connect(url, options = {}) {
    if (this.#state !== 'closed') {
      throw new PitayaError(ErrorCode.BAD_REQUEST, `the client is ${this.#state}: close it before connecting again`);
    }
    this.#settings = settingsFrom(url, options);
    this.#stop = new AbortController();
    this.#state = 'connecting';
    const stop = this.#stop.signal;
    try {
      await this.#attempt(this.#settings, stop);
    } catch (cause) {
      const error = asPitayaError(cause);
      if (!this.#settings.reconnect?.first || isRefusal(error) || stop.aborted) {
        this.#giveUp(stop);
        throw error;
      }
      await this.#attemptAgain(this.#settings, stop, error);
    }
  }

  /**
   * Asks the server and waits for its answer.
   *
   * @template [T=any]
   * @param {string} route `service.method` or `serverType.service.method`
   * @param {unknown} [data] Sent as JSON; `undefined` is an empty body.
   * @param {{timeout?: number}} [options] Another time-out than that of the client, in milliseconds.
   * @returns {Promise<T>} Rejected with a {@link PitayaError}.
   */
  async request(route, data, options = {}) {
    const { connection, settings } = this.#opened();
    const timeout = options.timeout ?? settings.requestTimeout;
    const id = this.#nextId;
    connection.send({ type: MessageType.REQUEST, id, route, body: encodeJson(data) });
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const expire = () => {
        this.#pending.delete(id);
        reject(new PitayaError(ErrorCode.TIMEOUT, `no answer to ${route} within ${timeout} ms`));
      };
      const timer = timeout <= LONGEST_TIMER ? setTimeout(expire, timeout) : undefined;
      this.#pending.set(id, { resolve, reject, timer });
    });
  }

  /**
   * Tells the server something. There is no answer, not even an error of the handler.
   *
   * @param {string} route
   * @param {unknown} [data] Sent as JSON; `undefined` is an empty body.
   */
  notify(route, data) {
    this.#opened().connection.send({ type: MessageType.NOTIFY, route, body: encodeJson(data) });
  }

  /**
   * Listens to the pushes of a route.
   *
   * @param {string} route
   * @param {(data: any) => void} listener
   * @returns {() => void} Stops listening.
   */
  on(route, listener) {
    let listeners = this.#routes.get(route);
    if (!listeners) this.#routes.set(route, (listeners = new Listeners()));
    return listeners.add(listener);
  }

  /** The server sent the client away; there is no reconnecting after that. @param {() => void} listener */
  onKick(listener) {
    return this.#kicks.add(listener);
  }

  /** An open connection has ended, for whatever reason. @param {(event: CloseEvent) => void} listener */
  onClose(listener) {
    return this.#closes.add(listener);
  }

  /** The next attempt is planned. @param {(event: ReconnectingEvent) => void} listener */
  onReconnecting(listener) {
    return this.#reconnectings.add(listener);
  }

  /** A lost connection is there again: a new session for the server. @param {() => void} listener */
  onReconnect(listener) {
    return this.#reconnects.add(listener);
  }

  /** The client has given up after a lost connection. @param {(error: PitayaError) => void} listener */
  onReconnectFailed(listener) {
    return this.#failures.add(listener);
  }

  /** Makes the next attempt now instead of waiting. Does nothing when no attempt is planned. */
  retryNow() {
    this.#wake();
  }

  /** Ends the connection, or the attempts to make one. The client can connect again afterwards. */
  close() {
    if (this.#state === 'closed') return;
    const error = new PitayaError(ErrorCode.CLOSED, 'the client closed the connection');
    this.#stop.abort(error);
    // An open connection reports its end, and #ended does the rest.
    if (this.#state !== 'open') this.#state = 'closed';
    this.#connection?.close(error);
  }

  /** @returns {{connection: Connection, settings: Settings}} */
  #opened() {
    if (this.#state !== 'open' || !this.#connection || !this.#settings) {
      throw new PitayaError(ErrorCode.CLOSED, 'there is no connection to the server');
    }
    return { connection: this.#connection, settings: this.#settings };
  }

  /** One attempt. @param {Settings} settings @param {AbortSignal} stop @returns {Promise<void>} */
  #attempt(settings, stop) {
    return new Promise((resolve, reject) => {
      let opened = false;
      this.#connection = new Connection(settings, {
        opened: () => {
          opened = true;
          const again = this.#state === 'reconnecting';
          this.#nextId = 1;
          this.#state = 'open';
          resolve();
          if (again) this.#reconnects.emit();
        },
        message: (message) => this.#deliver(message),
        kicked: () => {
          this.#stop.abort(new PitayaError(ErrorCode.CLOSED, 'the server ended the session'));
          this.#kicks.emit();
        },
        closed: (error) => (opened ? this.#ended(settings, stop, error) : reject(error)),
      });
    });
  }

  /**
   * Attempts until one succeeds.
   *
   * @param {Settings} settings
   * @param {AbortSignal} stop
   * @param {PitayaError} error Why there is no connection.
   */
  async #attemptAgain(settings, stop, error) {
    const { minDelay, maxDelay, attempts } = /** @type {Required<ReconnectOptions>} */ (settings.reconnect);
    for (let attempt = 1; ; attempt += 1) {
      const longest = Math.min(maxDelay, minDelay * 2 ** (attempt - 1));
      const delay = longest * (0.5 + Math.random() / 2);
      this.#reconnectings.emit({ attempt, delay, error });
      await this.#pause(delay, stop);
      try {
        return await this.#attempt(settings, stop);
      } catch (cause) {
        error = asPitayaError(cause);
        if (isRefusal(error) || attempt >= attempts || stop.aborted) {
          this.#giveUp(stop);
          throw error;
        }
      }
    }
  }

  /** No further attempts. @param {AbortSignal} stop */
  #giveUp(stop) {
    // After close() the client may already be connecting again, and the state is that of the new connect().
    if (stop === this.#stop.signal) this.#state = 'closed';
  }

  /** @param {number} delay @param {AbortSignal} stop @returns {Promise<void>} */
  #pause(delay, stop) {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        stop.removeEventListener('abort', done);
        this.#wake = () => {};
        if (stop.aborted) reject(stop.reason);
        else resolve();
      };
      const timer = setTimeout(done, Math.min(delay, LONGEST_TIMER));
      stop.addEventListener('abort', done);
      this.#wake = done;
      if (stop.aborted) done();
    });
  }

  /** An open connection has ended. @param {Settings} settings @param {AbortSignal} stop @param {PitayaError} error */
  #ended(settings, stop, error) {
    const willReconnect = settings.reconnect !== undefined && !stop.aborted;
    this.#state = willReconnect ? 'reconnecting' : 'closed';
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new PitayaError(error.code, error.message, error.metadata));
    }
    this.#pending.clear();
    this.#closes.emit({ error, willReconnect });
    // A listener may have closed the client, or even connected it again.
    if (!willReconnect || stop.aborted) return;
    this.#attemptAgain(settings, stop, error).catch((cause) => {
      if (!stop.aborted) this.#failures.emit(asPitayaError(cause));
    });
  }

  /** @param {Message} message */
  #deliver(message) {
    if (message.type === MessageType.PUSH) {
      const listeners = this.#routes.get(message.route);
      if (!listeners) return;
      let data;
      try {
        data = decodeJson(message.body);
      } catch (error) {
        // The frame is sound, only its content is not ours: no reason to give the connection up.
        console.error(message.route, error);
        return;
      }
      listeners.emit(data);
      return;
    }
    const request = this.#pending.get(message.id);
    if (!request) return; // It has timed out.
    this.#pending.delete(message.id);
    clearTimeout(request.timer);
    try {
      const data = decodeJson(message.body);
      if (message.error) request.reject(errorFrom(data));
      else request.resolve(data);
    } catch (error) {
      request.reject(asPitayaError(error));
    }
  }
}

/** @param {any} data The body of an error answer. @returns {PitayaError} */
function errorFrom(data) {
  const { code, msg, metadata } = data ?? {};
  return new PitayaError(code || ErrorCode.UNKNOWN, msg || 'the server gave no reason', metadata ?? {});
}

/** @param {PitayaError} error @returns {boolean} The server does not want this client: trying again is no use. */
const isRefusal = (error) => error.code === ErrorCode.BAD_REQUEST;
