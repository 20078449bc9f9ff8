// Checks of web/pitaya.js, run in a page of the demo. The whole file is one expression: a promise of the names of the
// checks that passed. The hex vectors are those of the protocol; servers of other languages send the same bytes.
(async () => {
  const {
    MessageType,
    PacketType,
    PitayaClient,
    RouteDictionary,
    decodeMessage,
    decodePacket,
    encodeMessage,
    encodePacket,
    inflate,
  } = await import('/pitaya.js');

  const bytes = (hex) => Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const text = (data) => new TextDecoder().decode(data);
  const body = (value) => new TextEncoder().encode(value);

  function equal(actual, expected, what) {
    const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (a !== e) throw new Error(`${what}: ${a} is not ${e}`);
  }

  function throws(action, what) {
    try {
      action();
    } catch (error) {
      equal(error.name, 'PitayaError', what);
      return;
    }
    throw new Error(`${what}: nothing was thrown`);
  }

  /** The promise has to be rejected with this code. */
  async function rejected(promise, code, what) {
    const outcome = await promise.then(() => 'fulfilled', (error) => error.code ?? String(error));
    equal(outcome, code, what);
  }

  /** Waits until a condition holds; the test as a whole has an upper bound. */
  async function until(condition) {
    while (!condition()) await new Promise((done) => setTimeout(done, 5));
  }

  async function deflate(value) {
    const stream = new Blob([body(value)]).stream().pipeThrough(new CompressionStream('deflate'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // -------------------------------------------------------------------------------------------------------------------
  // A WebSocket whose other end is the check

  class FakeSocket {
    static all = [];
    OPEN = 1;
    readyState = 0;
    sent = [];

    constructor(url) {
      this.url = url;
      FakeSocket.all.push(this);
    }

    send(data) {
      this.sent.push(new Uint8Array(data));
    }

    close() {
      this.readyState = 3;
    }

    open() {
      this.readyState = 1;
      this.onopen();
    }

    /** The connection breaks. */
    drop() {
      this.readyState = 3;
      this.onclose();
    }

    receive(data) {
      this.onmessage({ data: typeof data === 'string' ? data : data.slice().buffer });
    }

    handshake(answer = { code: 200, sys: { dict: {}, heartbeat: 30, serializer: 'json' } }) {
      this.receive(encodePacket(PacketType.HANDSHAKE, body(JSON.stringify(answer))));
    }

    message(message) {
      this.receive(encodePacket(PacketType.DATA, encodeMessage(message)));
    }

    push(route, value) {
      this.message({ type: MessageType.PUSH, route, body: body(JSON.stringify(value)) });
    }

    async compressedPush(route, value) {
      const plain = encodeMessage({ type: MessageType.PUSH, route, body: await deflate(JSON.stringify(value)) });
      plain[0] |= 0x10;
      this.receive(encodePacket(PacketType.DATA, plain));
    }

    types() {
      return this.sent.map((packet) => packet[0]);
    }
  }

  /** A client and its socket, before the handshake. */
  function begin(options = {}) {
    const client = new PitayaClient();
    const connected = client.connect('ws://check/', { WebSocket: FakeSocket, ...options });
    connected.catch(() => {});
    const socket = FakeSocket.all.at(-1);
    socket.open();
    return { client, connected, socket };
  }

  async function ready(options) {
    const all = begin(options);
    all.socket.handshake();
    await all.connected;
    return all;
  }

  // -------------------------------------------------------------------------------------------------------------------

  const checks = {
    'packets match the vectors': () => {
      equal(hex(encodePacket(PacketType.HANDSHAKE_ACK)), '02000000', 'ack');
      equal(hex(encodePacket(PacketType.HEARTBEAT)), '03000000', 'heartbeat');
      const request = { type: MessageType.REQUEST, id: 1, route: 'room.room.join', body: body('{}') };
      const packet = '0400001300010e726f6f6d2e726f6f6d2e6a6f696e7b7d';
      equal(hex(encodePacket(PacketType.DATA, encodeMessage(request))), packet, 'request');
      equal(decodePacket(bytes(packet)).type, PacketType.DATA, 'type');
      equal(decodePacket(bytes('05000000')).body.length, 0, 'kick');
    },

    'broken packets are refused': () => {
      for (const packet of ['', '03', '030000', '00000000', '06000000', 'ff000000', '04000003aabb', '0300000003']) {
        throws(() => decodePacket(bytes(packet)), packet);
      }
      throws(() => encodePacket(PacketType.DATA, new Uint8Array(0x1000000)), 'a body of 16 MiB');
    },

    'messages match the vectors': () => {
      const dictionary = new RouteDictionary({ 'a.b': 1, onPush: 258 });
      const vectors = [
        ['00010e726f6f6d2e726f6f6d2e6a6f696e7b7d', 0, 1, 'room.room.join', '{}'],
        ['00800103612e62', 0, 128, 'a.b', ''],
        ['00ac0212636f6e6e6563746f722e656e7472792e686978', 0, 300, 'connector.entry.hi', 'x'],
        ['0203612e626869', 1, 0, 'a.b', 'hi'],
        ['06096f6e4d6573736167657b2261223a317d', 3, 0, 'onMessage', '{"a":1}'],
        ['04017b22636f6465223a307d', 2, 1, '', '{"code":0}'],
        ['0200', 1, 0, '', ''],
        ['04ffffffffffffff0f', 2, Number.MAX_SAFE_INTEGER, '', ''],
      ];
      for (const [vector, type, id, route, content] of vectors) {
        const message = decodeMessage(bytes(vector));
        equal([message.type, message.id, message.route, text(message.body)], [type, id, route, content], vector);
        equal(hex(encodeMessage(message)), vector, `${vector} encoded`);
      }
      equal(decodeMessage(bytes('0701027b7d'), dictionary).route, 'onPush', 'a code of the dictionary');
      const request = { type: MessageType.REQUEST, id: 1, route: 'a.b', body: body('{}') };
      equal(hex(encodeMessage(request, dictionary)), '010100017b7d', 'a route of the dictionary');
      equal(decodeMessage(bytes('c203612e626869')).route, 'a.b', 'the high bits mean nothing');
      equal(text(decodeMessage(bytes('050161')).body), 'a', 'the code bit means nothing in a response');
      equal(decodeMessage(bytes('24027b7d')).error, true, 'an error');
    },

    'broken messages are refused': () => {
      const broken = [
        '', '00', '0001', '0480', '000180', '0301', '021061', '0a00', // too short or of no type
        '07010261', // a code that is in no dictionary
        '04ffffffffffffffffff01', '04ffffffffffffff1f', // ids above 2^53
        '048000', '0480808080808080808001', // ids with needless bytes
        '0602c328', // a route that is not UTF-8
      ];
      for (const message of broken) throws(() => decodeMessage(bytes(message)), message);
      throws(() => encodeMessage({ type: MessageType.NOTIFY, route: 'r'.repeat(256) }), 'a route of 256 bytes');
      for (const dict of [{ a: 0 }, { a: 65536 }, { a: 1.5 }, { a: '1' }, { a: 1, b: 1 }, [], 7]) {
        throws(() => new RouteDictionary(dict), JSON.stringify(dict));
      }
    },

    'ids survive up to 2^53': () => {
      for (const id of [1, 127, 128, 16383, 16384, 2 ** 31, 2 ** 32 + 5, 2 ** 49, Number.MAX_SAFE_INTEGER]) {
        equal(decodeMessage(encodeMessage({ type: MessageType.RESPONSE, id })).id, id, `id ${id}`);
      }
    },

    'compressed bodies are inflated, within bounds': async () => {
      const pitaya = decodeMessage(bytes('1405789c2ac82c49ac4c54209902040000ffff65ce1541'));
      equal(text(await inflate(pitaya.body, 1000)), 'pitaya '.repeat(8), 'zlib of another server');
      equal((await inflate(await deflate('x'.repeat(100_000)), 100_000)).length, 100_000, 'exactly the limit');
      await rejected(inflate(await deflate('x'.repeat(100_001)), 100_000), 'PIT-000', 'one above the limit');
      await rejected(inflate(await deflate('x'.repeat(20_000_000)), 100_000), 'PIT-000', 'a bomb');
      await rejected(inflate(bytes('789c4aa4'), 1000), 'PIT-000', 'half a stream');
      await rejected(inflate(body('plain text'), 1000), 'PIT-000', 'no stream at all');
      await rejected(inflate(bytes(''), 1000), 'PIT-000', 'nothing');
    },

    'a handshake opens the connection': async () => {
      const { client, connected, socket } = begin({ user: { level: 3 } });
      equal(client.state, 'connecting', 'state');
      const { type, body: sent } = decodePacket(socket.sent[0]);
      const handshake = JSON.parse(text(sent));
      equal([type, handshake.user, handshake.sys.platform], [1, { level: 3 }, 'web'], 'what is sent');
      await rejected(client.request('a.b'), 'PIT-499', 'a request before');
      socket.handshake();
      await connected;
      equal([client.state, socket.types()], ['open', [1, 2]], 'afterwards');
      await rejected(client.connect('ws://check/'), 'PIT-400', 'connecting twice');
      client.close();
      equal(client.state, 'closed', 'closed');
    },

    'a handshake may be compressed, and brings a dictionary': async () => {
      const { client, connected, socket } = begin();
      const answer = { code: 200, sys: { dict: { 'a.b': 1, onPush: 2 }, heartbeat: 30, serializer: 'json' } };
      socket.receive(encodePacket(PacketType.HANDSHAKE, await deflate(JSON.stringify(answer))));
      await connected;
      const pushes = [];
      client.on('onPush', (push) => pushes.push(push));
      client.notify('a.b', {});
      equal(hex(socket.sent.at(-1)), '04000005' + '0300017b7d', 'a notify by its code');
      socket.receive(bytes('04000005' + '0700027b7d'));
      await until(() => pushes.length);
      client.close();
    },

    'a refused handshake rejects': async () => {
      const sys = { dict: {}, heartbeat: 30, serializer: 'json' };
      const answers = [
        { code: 400, sys }, { sys }, null, {},
        { code: 200, sys: { ...sys, serializer: 'protobuf' } },
      ];
      for (const answer of answers) {
        const { client, connected, socket } = begin({ reconnect: { first: true } });
        socket.handshake(answer);
        await rejected(connected, 'PIT-400', JSON.stringify(answer));
        equal([client.state, socket.readyState, socket.types()], ['closed', 3, [1]], 'no ack, closed, no other attempt');
      }
      const odd = begin();
      odd.socket.receive(encodePacket(PacketType.HANDSHAKE, body('not json')));
      await rejected(odd.connected, 'PIT-000', 'a body that is not JSON');

      const { client, socket } = await ready({ reconnect: { minDelay: 1 } });
      const failures = [];
      client.onReconnectFailed((error) => failures.push(error.code));
      socket.drop();
      await until(() => FakeSocket.all.at(-1) !== socket);
      FakeSocket.all.at(-1).open();
      FakeSocket.all.at(-1).handshake({ code: 400, sys });
      await until(() => failures.length);
      equal([client.state, failures], ['closed', ['PIT-400']], 'refused when it comes back');
    },

    'silence before the handshake has an end': async () => {
      const { client, connected } = begin({ connectTimeout: 20 });
      await rejected(connected, 'PIT-504', 'time-out');
      equal(client.state, 'closed', 'state');
    },

    'requests are matched to their answers': async () => {
      const { client, socket } = await ready();
      const [first, second] = [client.request('a.b', { x: 1 }), client.request('a.c')];
      equal(hex(socket.sent[2].subarray(4)), '0001' + '03612e62' + hex(body('{"x":1}')), 'the first has id 1');
      equal(hex(socket.sent[3].subarray(4)), '0002' + '03612e63', 'the second has id 2 and no body');
      const error = { code: 'APP-7', msg: 'no', metadata: { k: 'v' } };
      socket.message({ type: MessageType.RESPONSE, id: 2, error: true, body: body(JSON.stringify(error)) });
      socket.message({ type: MessageType.RESPONSE, id: 9, body: body('"nobody asked"') });
      socket.message({ type: MessageType.RESPONSE, id: 1, body: body('{"y":2}') });
      const failure = await second.catch((reason) => reason);
      equal([failure.code, failure.message, failure.metadata], ['APP-7', 'no', { k: 'v' }], 'the error');
      equal(await first, { y: 2 }, 'the answer');

      const odd = client.request('a.d');
      socket.message({ type: MessageType.RESPONSE, id: 3, body: body('not json') });
      await rejected(odd, 'PIT-000', 'an answer that is not JSON');
      equal(client.state, 'open', 'which is no reason to close');
      await rejected(client.request('r'.repeat(256)), 'PIT-400', 'a route that is too long');
      client.close();
    },

    'requests time out': async () => {
      const { client, socket } = await ready({ requestTimeout: 10 });
      await rejected(client.request('a.b'), 'PIT-504', 'the time-out of the client');
      const patient = client.request('a.b', undefined, { timeout: Infinity });
      socket.message({ type: MessageType.RESPONSE, id: 1, body: body('"late"') });
      socket.message({ type: MessageType.RESPONSE, id: 2, body: body('"in time"') });
      equal(await patient, 'in time', 'its own time-out');
      client.close();
    },

    'messages are delivered in order, compressed or not': async () => {
      const { client, socket } = await ready();
      const seen = [];
      client.on('n', (number) => seen.push(number));
      client.on('n', () => {
        throw new Error('a listener that throws (part of a check)');
      });
      const stop = client.on('n', () => seen.push('stopped'));
      stop();
      const expected = [];
      for (let number = 0; number < 40; number += 1) {
        expected.push(number);
        if (number % 3 === 0) await socket.compressedPush('n', number);
        else socket.push('n', number);
      }
      // The close that follows at once comes last, too.
      client.onClose(() => seen.push('closed'));
      socket.drop();
      await until(() => client.state === 'closed');
      equal(seen, [...expected, 'closed'], 'order');
    },

    'malformed data closes the connection, and throws nowhere': async () => {
      const strays = [];
      const stray = (event) => strays.push(event.message ?? String(event.reason));
      addEventListener('error', stray);
      addEventListener('unhandledrejection', stray);
      const broken = [
        bytes(''), bytes('06000000'), bytes('0300000003'), bytes('040000020001'), bytes('04000002' + '0480'),
        bytes('04000003' + '070001'), // an unknown code
        bytes('04000004' + '14010000'), // not a zlib stream
        bytes('04000002' + '0200'), // a notify from a server
        bytes('02000000'), // an ack from a server
        encodePacket(PacketType.HANDSHAKE, body('{"code":200}')), // a second handshake
        'text',
      ];
      for (const data of broken) {
        const { client, socket } = await ready();
        const ends = [];
        client.onClose((end) => ends.push(end));
        const request = client.request('a.b');
        socket.receive(data);
        await rejected(request, 'PIT-000', `a request beside ${typeof data === 'string' ? data : hex(data)}`);
        equal([client.state, socket.readyState, ends.length, ends[0].willReconnect], ['closed', 3, 1, false], 'closed');
        socket.push('n', 1); // Too late, and harmless.
      }
      await new Promise((done) => setTimeout(done, 0));
      removeEventListener('error', stray);
      removeEventListener('unhandledrejection', stray);
      equal(strays, [], 'errors that nobody caught');
    },

    'a push that is not JSON harms nothing else': async () => {
      const { client, socket } = await ready();
      const seen = [];
      client.on('n', (number) => seen.push(number));
      socket.message({ type: MessageType.PUSH, route: 'n', body: body('not json (part of a check)') });
      socket.push('n', 2);
      await until(() => seen.length);
      equal([seen, client.state], [[2], 'open'], 'the next one');
      client.close();
    },

    'heartbeats go out, and silence closes': async () => {
      const { client, connected, socket } = begin();
      socket.handshake({ code: 200, sys: { heartbeat: 0.05, serializer: 'json' } });
      await connected;
      const beats = () => socket.types().filter((type) => type === PacketType.HEARTBEAT).length;
      const start = performance.now();
      while (beats() < 5) {
        socket.receive(encodePacket(PacketType.HEARTBEAT));
        await new Promise((done) => setTimeout(done, 5));
      }
      equal(performance.now() - start > 200, true, 'five heartbeats take at least five intervals, less the tenths');
      equal(client.state, 'open', 'a server that lives');
      const ends = [];
      client.onClose((end) => ends.push(end));
      await until(() => client.state === 'closed');
      equal([ends.length, ends[0].error.code], [1, 'PIT-499'], 'a server that is silent');
    },

    'a lost connection comes back': async () => {
      const { client, socket } = await ready({ reconnect: { minDelay: 4, maxDelay: 10, attempts: 3 } });
      const events = [];
      client.onClose(({ willReconnect }) => events.push(`closed, back: ${willReconnect}`));
      client.onReconnecting(({ attempt, delay }) => {
        const longest = Math.min(10, 4 * 2 ** (attempt - 1));
        if (delay < longest / 2 || delay > longest) events.push(`delay ${delay}`);
        events.push(`attempt ${attempt}`);
      });
      client.onReconnect(() => events.push(`again ${client.state}`));
      client.onReconnectFailed((error) => events.push(`failed ${error.code}`));
      const count = FakeSocket.all.length;
      const lost = client.request('a.b');
      socket.drop();
      await rejected(lost, 'PIT-499', 'a request under way');
      await until(() => FakeSocket.all.length === count + 1);
      FakeSocket.all.at(-1).drop();
      await until(() => FakeSocket.all.length === count + 2);
      FakeSocket.all.at(-1).open();
      FakeSocket.all.at(-1).handshake();
      await until(() => client.state === 'open');
      client.notify('a.b');
      const answered = client.request('a.b');
      equal(FakeSocket.all.at(-1).sent.at(-1)[5], 1, 'ids start at 1 on each connection');
      FakeSocket.all.at(-1).message({ type: MessageType.RESPONSE, id: 1, body: body('1') });
      equal(await answered, 1, 'an answer');
      equal(events, ['closed, back: true', 'attempt 1', 'attempt 2', 'again open'], 'events');

      events.length = 0;
      for (let attempt = 0; attempt <= 3; attempt += 1) {
        const sockets = FakeSocket.all.length;
        FakeSocket.all.at(-1).drop();
        if (attempt < 3) await until(() => FakeSocket.all.length > sockets);
      }
      await until(() => client.state === 'closed');
      await until(() => events.length === 5);
      equal(events, ['closed, back: true', 'attempt 1', 'attempt 2', 'attempt 3', 'failed PIT-499'], 'giving up');
    },

    'waiting can be cut short, or ended': async () => {
      const { client, socket } = await ready({ reconnect: { minDelay: 3_600_000, maxDelay: 3_600_000 } });
      const count = FakeSocket.all.length;
      socket.drop();
      await until(() => client.state === 'reconnecting');
      await new Promise((done) => setTimeout(done, 0));
      equal(FakeSocket.all.length, count, 'no attempt yet');
      client.retryNow();
      await until(() => FakeSocket.all.length === count + 1);
      FakeSocket.all.at(-1).drop();
      await new Promise((done) => setTimeout(done, 0));
      client.close();
      equal(client.state, 'closed', 'closed while waiting');

      const first = new PitayaClient();
      const connected = first.connect('ws://check/', { WebSocket: FakeSocket, reconnect: { first: true } });
      FakeSocket.all.at(-1).drop();
      await new Promise((done) => setTimeout(done, 0));
      equal(first.state, 'connecting', 'the first attempt failed, another is to come');
      first.close();
      await rejected(connected, 'PIT-499', 'closed before it was ever open');
    },

    'a kick is final': async () => {
      const { client, socket } = await ready({ reconnect: true });
      const events = [];
      client.onKick(() => events.push('kick'));
      client.onClose(({ willReconnect }) => events.push(`closed, back: ${willReconnect}`));
      client.onReconnecting(() => events.push('reconnecting'));
      socket.receive(bytes('05000000'));
      await until(() => client.state === 'closed');
      equal(events, ['kick', 'closed, back: false'], 'events');
      const again = client.connect('ws://check/', { WebSocket: FakeSocket });
      FakeSocket.all.at(-1).open();
      FakeSocket.all.at(-1).handshake();
      await again;
      client.close();
    },
  };

  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      throw new Error(`${name}: ${error.stack ?? error}`);
    }
  }
  return Object.keys(checks);
})()
