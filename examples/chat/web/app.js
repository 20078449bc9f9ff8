// @ts-check
/**
 * The page of the chat. It knows the routes of the server and the elements of index.html; everything about bytes and
 * connections is in pitaya.js. All text of other people gets into the page as text, never as HTML.
 */

import { ErrorCode, PitayaClient, PitayaError } from './pitaya.js';

/**
 * @typedef {{name: string, text: string, at: number}} ChatMessage
 * @typedef {{name: string, members: number}} Room
 * @typedef {{name: string, room: string, members: {name: string}[], rooms: Room[], history: ChatMessage[]}} JoinAnswer
 */

const ADDRESS = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/`;
/** Where one goes who has no wish. */
const FIRST_ROOM = 'lobby';
/** The server takes this many characters in one message. */
const LONGEST_TEXT = 500;
/** Older entries leave the page. */
const MOST_ENTRIES = 400;
/** Messages of one person within this time stand together, in milliseconds. */
const TOGETHER = 3 * 60_000;
/** We tell that we type at most this often, and believe it of others for a little longer, in milliseconds. */
const TYPING_EVERY = 2_500;
const TYPING_SHOWN = 4_000;
/**
 * How long to ask for our own name again while the server still sees our old connection, in milliseconds. After a
 * reload the old one is gone at once; after a broken network the server first has to miss our heartbeats.
 */
const PATIENCE_AFTER_RELOAD = 3_000;
const PATIENCE_AFTER_LOSS = 95_000;

// ---------------------------------------------------------------------------------------------------------------------
// Small helpers

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
function make(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Where one points with a finger, a focused field raises a keyboard over half of the page. */
const byTouch = matchMedia('(pointer: coarse)');

/** What is kept in the browser. A browser may refuse it: then nothing is remembered, and all else works. */
const memory = {
  /** @param {() => Storage} storage @param {string} key @returns {any} */
  read(storage, key) {
    try {
      return JSON.parse(storage().getItem(`pitaya-chat.${key}`) ?? 'null');
    } catch {
      return null;
    }
  },
  /** @param {() => Storage} storage @param {string} key @param {unknown} value */
  write(storage, key, value) {
    try {
      if (value === null) storage().removeItem(`pitaya-chat.${key}`);
      else storage().setItem(`pitaya-chat.${key}`, JSON.stringify(value));
    } catch {
      // Not remembered.
    }
  },
};
/** Lives as long as the tab: who sits where. */
const tab = () => sessionStorage;
/** Lives on: the name for the next visit. */
const forGood = () => localStorage;

/** @param {string} name @returns {string} An angle on the colour wheel, the same for a name everywhere. */
function hue(name) {
  let hash = 2166136261;
  for (const letter of name) hash = Math.imul(hash ^ (letter.codePointAt(0) ?? 0), 16777619);
  return String((hash >>> 0) % 360);
}

/** @param {HTMLElement} target @param {string} name */
const paint = (target, name) => target.style.setProperty('--hue', hue(name));

/** @param {string} name @returns {HTMLElement} */
function face(name) {
  const made = make('span', 'face', [...name][0]);
  made.setAttribute('aria-hidden', 'true');
  paint(made, name);
  return made;
}

/**
 * Makes the children of a list match the items, and leaves alone those that stay: they keep focus and scrolling.
 *
 * @template T
 * @param {HTMLElement} list
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => HTMLElement} create
 * @param {(child: HTMLElement, item: T) => void} [update]
 */
function reconcile(list, items, keyOf, create, update) {
  const old = new Map([...list.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, child]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const child = /** @type {HTMLElement} */ (old.get(key) ?? create(item));
    old.delete(key);
    child.dataset.key = key;
    update?.(child, item);
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  });
  for (const child of old.values()) child.remove();
}

/** @param {unknown} error @param {{name?: string}} [about] @returns {string} The error in words for people. */
function words(error, about = {}) {
  if (!(error instanceof PitayaError)) return 'Something went wrong in this page. Reloading it may help.';
  switch (error.code) {
    case 'CHAT-001':
      return 'A name has 1 to 24 characters.';
    case 'CHAT-002':
      return 'The name of a room has 1 to 24 letters, digits, - or _.';
    case 'CHAT-003':
      return `Somebody called ${about.name ?? 'that'} is here already. Please take another name.`;
    case 'CHAT-004':
      return `A message has 1 to ${LONGEST_TEXT} characters.`;
    case 'CHAT-005':
      return 'You are not in a room any more. Leave and join again.';
    case 'CHAT-006':
      return 'There are enough rooms already. Please take one of them.';
    case ErrorCode.TIMEOUT:
      return 'The chat did not answer in time. Please try again.';
    case ErrorCode.CLOSED:
      return 'There is no connection to the chat right now. Please try again in a moment.';
    default:
      return `The chat could not do that: ${error.message} (${error.code})`;
  }
}

/** @param {HTMLElement} place @param {string} [text] Nothing hides the place. */
function tell(place, text = '') {
  place.hidden = !text;
  place.textContent = text;
}

// ---------------------------------------------------------------------------------------------------------------------
// Times

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const longDay = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' });

/** @param {number} at @returns {string} */
const dayOf = (at) => new Date(at).toDateString();

/** @param {string} day From {@link dayOf}. @returns {string} */
function dayInWords(day) {
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  if (day === dayOf(Date.now())) return 'Today';
  if (day === yesterday.toDateString()) return 'Yesterday';
  return longDay.format(new Date(day));
}

/** @param {number} at @returns {HTMLTimeElement} */
function timeStamp(at) {
  const date = new Date(at);
  const stamp = make('time', '', clock.format(date));
  stamp.dateTime = date.toISOString();
  stamp.title = fullTime.format(date);
  return stamp;
}

// ---------------------------------------------------------------------------------------------------------------------
// The talk: messages and notices, with scrolling that follows the newest unless somebody reads further up

const LINK = /https?:\/\/[^\s<>"]*[^\s<>".,;:!?)\]}']/g;
const ONLY_EMOJI = /^(?:\p{Extended_Pictographic}(?:\uFE0F|\u200D\p{Extended_Pictographic}|\p{Emoji_Modifier})*\s*){1,3}$/u;

/** @param {string} text @returns {HTMLElement} */
function messageText(text) {
  const made = make('p', ONLY_EMOJI.test(text) ? 'text big' : 'text');
  let end = 0;
  for (const { 0: address, index } of text.matchAll(LINK)) {
    if (!URL.canParse(address)) continue;
    const link = make('a', '', address);
    link.href = address;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    made.append(text.slice(end, index), link);
    end = index + address.length;
  }
  made.append(text.slice(end));
  return made;
}

class Talk {
  #log = element('log', HTMLElement);
  #list = element('messages', HTMLOListElement);
  #empty = element('empty', HTMLElement);
  #pill = element('unread', HTMLButtonElement);
  #pillText = element('unread-text', HTMLElement);

  /** The newest is in sight, and stays so. */
  #follows = true;
  #unread = 0;
  /** What the last entry was, to put messages of one person together. @type {{name: string, at: number} | undefined} */
  #previous;
  /** Messages on the page, to show none twice when the history comes again. @type {Set<string>} */
  #shown = new Set();

  constructor() {
    this.#log.addEventListener('scroll', () => {
      const below = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight;
      this.#follows = below < 60;
      if (this.#follows) this.#countUnread(0);
    });
    // A phone's keyboard, a turned phone, a growing message field.
    new ResizeObserver(() => this.#settle()).observe(this.#log);
    this.#pill.addEventListener('click', () => {
      this.toNewest();
      this.#log.focus({ preventScroll: true });
    });
  }

  clear() {
    this.#list.replaceChildren();
    this.#shown.clear();
    this.#previous = undefined;
    this.#countUnread(0);
    this.#empty.hidden = false;
    this.#follows = true;
  }

  /** Adds what is missing of the history. @param {ChatMessage[]} messages @param {string} me */
  history(messages, me) {
    this.#log.setAttribute('aria-busy', 'true');
    for (const message of messages) this.message(message, me, false);
    this.#log.removeAttribute('aria-busy');
    this.#settle();
  }

  /** @param {ChatMessage} message @param {string} me @param {boolean} [live] Just said, not from the history. */
  message({ name, text, at }, me, live = true) {
    const key = `${at} ${name} ${text}`;
    if (this.#shown.has(key)) return;
    this.#shown.add(key);
    const mine = name === me;
    this.#startDay(at);

    const previous = this.#previous;
    const follows = previous?.name === name && at - previous.at < TOGETHER;
    this.#previous = { name, at };

    const item = make('li', 'message');
    item.classList.toggle('mine', mine);
    item.classList.toggle('follows', follows);
    item.classList.toggle('new', live);
    item.dataset.kind = 'message';
    item.dataset.name = name;
    item.dataset.shown = key;
    paint(item, name);

    const author = make('span', follows || mine ? 'visually-hidden' : 'author', mine ? 'You' : name);
    const bubble = make('div', 'bubble');
    bubble.append(messageText(text), ' ', timeStamp(at));
    if (mine) item.append(author, bubble);
    else item.append(author, face(name), bubble);
    this.#append(item);
    this.#empty.hidden = true;

    if (mine && live) this.toNewest();
    else if (live && !this.#follows) this.#countUnread(this.#unread + 1);
  }

  /** @param {'join' | 'leave'} kind @param {string} name @param {number} at */
  notice(kind, name, at) {
    this.#startDay(at);
    this.#previous = undefined;
    const item = make('li', 'notice new');
    item.dataset.kind = kind;
    item.dataset.name = name;
    paint(item, name);
    item.append(make('b', '', name), kind === 'join' ? ' came in, ' : ' left, ', timeStamp(at));
    this.#append(item);
  }

  toNewest() {
    this.#follows = true;
    this.#settle();
    this.#countUnread(0);
  }

  /** @param {number} at */
  #startDay(at) {
    const day = dayOf(at);
    const days = /** @type {HTMLElement[]} */ ([...this.#list.querySelectorAll('.day')]);
    if (days.at(-1)?.dataset.day === day) return;
    this.#previous = undefined;
    const item = make('li', 'day');
    item.dataset.day = day;
    this.#append(item);
    // What was today may be yesterday by now.
    for (const each of [...days, item]) each.textContent = dayInWords(each.dataset.day ?? '');
  }

  /** @param {HTMLElement} item */
  #append(item) {
    this.#list.append(item);
    // Nothing is taken away under the eyes of somebody who reads further up.
    while (this.#follows && this.#list.children.length > MOST_ENTRIES) {
      const oldest = /** @type {HTMLElement} */ (this.#list.firstElementChild);
      this.#shown.delete(oldest.dataset.shown ?? '');
      oldest.remove();
    }
    this.#settle();
  }

  #settle() {
    if (this.#follows) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** @param {number} count */
  #countUnread(count) {
    this.#unread = count;
    this.#pill.hidden = count === 0;
    this.#pillText.textContent = count === 1 ? '1 new message' : `${count} new messages`;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Who is typing

class Typists {
  #place = element('typing', HTMLElement);
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */ #timers = new Map();

  /** @param {string} name */
  add(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(() => this.remove(name), TYPING_SHOWN));
    this.#show();
  }

  /** @param {string} name */
  remove(name) {
    clearTimeout(this.#timers.get(name));
    if (this.#timers.delete(name)) this.#show();
  }

  clear() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#show();
  }

  #show() {
    const names = [...this.#timers.keys()];
    if (names.length === 0) this.#place.textContent = '';
    else if (names.length === 1) this.#place.textContent = `${names[0]} is typing`;
    else if (names.length === 2) this.#place.textContent = `${names[0]} and ${names[1]} are typing`;
    else this.#place.textContent = `${names.length} people are typing`;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The page

const page = {
  banner: element('banner', HTMLElement),
  bannerText: element('banner-text', HTMLElement),
  retry: element('retry', HTMLButtonElement),

  joinScreen: element('join-screen', HTMLElement),
  joinForm: element('join-form', HTMLFormElement),
  name: element('name', HTMLInputElement),
  room: element('room', HTMLInputElement),
  suggestions: element('suggestions', HTMLElement),
  joinError: element('join-error', HTMLElement),
  join: element('join', HTMLButtonElement),

  chatScreen: element('chat-screen', HTMLElement),
  side: element('side', HTMLElement),
  openSide: element('open-side', HTMLButtonElement),
  closeSide: element('close-side', HTMLButtonElement),
  scrim: element('scrim', HTMLElement),
  people: element('people', HTMLElement),
  rooms: element('rooms', HTMLElement),
  newRoomForm: element('new-room-form', HTMLFormElement),
  newRoom: element('new-room', HTMLInputElement),
  roomError: element('room-error', HTMLElement),
  me: element('me', HTMLElement),
  leave: element('leave', HTMLButtonElement),

  talk: element('talk', HTMLElement),
  title: element('room-title', HTMLElement),
  headCount: element('head-count', HTMLElement),
  faces: element('faces', HTMLElement),
  emptyText: element('empty-text', HTMLElement),
  invite: element('invite', HTMLButtonElement),
  composer: element('composer', HTMLFormElement),
  text: element('text', HTMLTextAreaElement),
  left: element('left', HTMLElement),
  sayError: element('say-error', HTMLElement),
  send: element('send', HTMLButtonElement),
};

const talk = new Talk();
const typists = new Typists();
const client = new PitayaClient();

/** Who we are and where; `joined` says that the server knows it too, on this connection. */
const seat = { name: '', room: '', joined: false };
/** @type {Set<string>} */ let members = new Set();
/** @type {Room[]} */ let rooms = [];
/** Messages that came while nobody looked at the tab. */
let missed = 0;

/** @param {number} count @returns {string} */
const people = (count) => (count === 1 ? '1 person' : `${count} people`);

/** @returns {Room[]} The rooms of the server, by name, and in any case the one where we are. */
function allRooms() {
  const known = rooms.some(({ name }) => name === seat.room) || !seat.room;
  const all = known ? [...rooms] : [...rooms, { name: seat.room, members: members.size }];
  return all.sort((a, b) => a.name.localeCompare(b.name));
}

/** @param {Room} room @param {(name: string) => void} choose @returns {HTMLElement} */
function roomItem(room, choose) {
  const button = make('button');
  button.type = 'button';
  button.dataset.room = room.name;
  button.append(make('span', 'room-name', room.name), ' ', make('span', 'count'));
  button.addEventListener('click', () => choose(room.name));
  const item = make('li');
  item.append(button);
  return item;
}

function showRooms() {
  reconcile(page.rooms, allRooms(), (room) => room.name, (room) => roomItem(room, moveTo), (item, room) => {
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    const count = /** @type {HTMLElement} */ (button.lastElementChild);
    count.replaceChildren(String(room.members), make('span', 'visually-hidden', ' there'));
    count.hidden = room.members === 0;
    if (room.name === seat.room) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  });
}

function showSuggestions() {
  // The busiest; a long list would push the button off a phone.
  const busiest = allRooms().sort((a, b) => b.members - a.members).slice(0, 5);
  const choose = (/** @type {string} */ name) => {
    page.room.value = name;
    page.room.dispatchEvent(new Event('input'));
  };
  reconcile(page.suggestions, busiest, (room) => room.name, (room) => roomItem(room, choose), (item, room) => {
    const button = /** @type {HTMLElement} */ (item.firstElementChild);
    button.setAttribute('aria-pressed', String(room.name === page.room.value.trim()));
    const count = /** @type {HTMLElement} */ (button.lastElementChild);
    count.textContent = room.members ? `${room.members} there` : '';
    count.hidden = room.members === 0;
  });
}

function showPeople() {
  const others = [...members].filter((name) => name !== seat.name).sort((a, b) => a.localeCompare(b));
  reconcile(page.people, members.has(seat.name) ? [seat.name, ...others] : others, (name) => name, (name) => {
    const item = make('li');
    item.dataset.name = name;
    item.append(face(name), make('span', 'person-name', name));
    if (name === seat.name) item.append(make('span', 'you', 'you'));
    return item;
  });
  page.headCount.textContent = seat.joined ? `${people(members.size)} here` : '';
  page.faces.replaceChildren(...others.slice(0, 3).map(face));
  page.emptyText.textContent = others.length
    ? 'Nothing has been said here yet. You could be the first.'
    : 'You are the only one here. Send somebody the link, or look into another room.';
}

function showTitle() {
  const place = seat.joined ? `${seat.room} · Pitaya Chat` : 'Pitaya Chat';
  document.title = missed ? `(${missed}) ${place}` : place;
}

/** Whether we can talk shows in the message field. */
function showComposer() {
  const length = [...page.text.value.trim()].length;
  page.send.disabled = length === 0 || !seat.joined || client.state !== 'open';
  page.left.textContent = length > LONGEST_TEXT - 100 ? String(LONGEST_TEXT - length).replace('-', '−') : '';
  page.left.classList.toggle('over', length > LONGEST_TEXT);
  // The field grows with its text, up to the height of the style sheet.
  page.text.style.blockSize = 'auto';
  page.text.style.blockSize = `${page.text.scrollHeight}px`;
  page.text.style.overflowY = page.text.scrollHeight > page.text.clientHeight + 1 ? 'auto' : 'hidden';
}

/** @type {ReturnType<typeof setTimeout> | undefined} */ let bannerTimer;

/** @param {string} [text] Nothing hides the banner. @param {{good?: boolean, retry?: boolean}} [how] */
function showBanner(text = '', { good = false, retry = false } = {}) {
  clearTimeout(bannerTimer);
  page.banner.hidden = !text;
  // Said again on every attempt it would be read out on every attempt.
  if (page.bannerText.textContent !== text) page.bannerText.textContent = text;
  page.banner.classList.toggle('good', good);
  page.retry.hidden = !retry;
  if (good) bannerTimer = setTimeout(showBanner, 2_500);
}

/** @param {string} [error] */
function showJoinScreen(error) {
  openSide(false);
  page.chatScreen.hidden = true;
  page.joinScreen.hidden = false;
  tell(page.joinError, error);
  showSuggestions();
  showTitle();
  if (!byTouch.matches) (error || !page.name.value ? page.name : page.join).focus();
}

function showChatScreen() {
  page.joinScreen.hidden = true;
  page.chatScreen.hidden = false;
  page.title.textContent = seat.room;
  page.me.replaceChildren(face(seat.name), make('span', 'person-name', seat.name));
  tell(page.sayError);
  tell(page.roomError);
  showRooms();
  showPeople();
  showComposer();
  showTitle();
}

/** On a narrow screen rooms and people are in a drawer. @param {boolean} open */
function openSide(open) {
  if (open === page.side.classList.contains('open')) return;
  page.side.classList.toggle('open', open);
  page.scrim.hidden = !open;
  page.talk.inert = open;
  page.openSide.setAttribute('aria-expanded', String(open));
  (open ? page.closeSide : page.openSide).focus();
}

/** Where to go on after joining. */
function focusTalk() {
  (byTouch.matches ? page.title : page.text).focus();
}

// ---------------------------------------------------------------------------------------------------------------------
// Joining, moving, leaving

/**
 * Pushes that came while a join was under way, to be handled after it. The argument says that we came from another
 * room, which they may be about.
 *
 * @type {((moved: boolean) => void)[] | undefined}
 */
let held;
/** Counts joins, so that one that was overtaken can see it. */
let joins = 0;

/**
 * Joins a room and shows it.
 *
 * @param {string} name
 * @param {string} room
 * @param {number} [patience] How long to ask again when the name is taken, which may be by our own old connection.
 */
async function takeSeat(name, room, patience = 0) {
  const join = (joins += 1);
  const until = performance.now() + patience;
  const from = seat.joined ? seat.room : undefined;
  held = [];
  try {
    for (let wait = 150; ; wait = Math.min(2 * wait, 2_000)) {
      try {
        sit(await client.request('room.room.join', { name, room }));
        return;
      } catch (error) {
        const again = error instanceof PitayaError && error.code === 'CHAT-003' && performance.now() + wait < until;
        if (!again) throw error;
      }
      await pause(wait);
      if (join !== joins) throw new PitayaError(ErrorCode.CLOSED, 'overtaken by a later join');
    }
  } finally {
    if (join === joins) {
      const waiting = held;
      held = undefined;
      for (const handle of waiting) handle(from !== undefined && from !== seat.room);
    }
  }
}

/** The server has given us a seat. @param {JoinAnswer} answer */
function sit(answer) {
  const moved = answer.room !== seat.room || page.chatScreen.hidden;
  Object.assign(seat, { name: answer.name, room: answer.room, joined: true });
  members = new Set(answer.members.map(({ name }) => name));
  rooms = answer.rooms;
  memory.write(forGood, 'name', seat.name);
  memory.write(tab, 'seat', { name: seat.name, room: seat.room });
  history.replaceState(null, '', `#${encodeURIComponent(seat.room)}`);
  typists.clear();
  if (moved) talk.clear();
  showChatScreen();
  talk.history(answer.history, seat.name);
}

/** Takes our seat again on a new connection. @param {number} patience */
async function takeSeatAgain(patience) {
  try {
    await takeSeat(seat.name, seat.room, patience);
    return true;
  } catch (error) {
    // A connection that broke again brings us here again when it is back.
    if (client.state !== 'open' || (error instanceof PitayaError && error.code === ErrorCode.CLOSED)) return false;
    const text = words(error, seat);
    standUp();
    showJoinScreen(text);
    return false;
  }
}

/** Nobody sits here any more, as far as this page is concerned. */
function standUp() {
  joins += 1;
  held = undefined;
  Object.assign(seat, { name: '', room: '', joined: false });
  members.clear();
  memory.write(tab, 'seat', null);
  history.replaceState(null, '', location.pathname);
  typists.clear();
  talk.clear();
  missed = 0;
}

/** @param {string} room */
async function moveTo(room) {
  openSide(false);
  if (room === seat.room || held) return;
  tell(page.roomError);
  try {
    await takeSeat(seat.name, room);
    focusTalk();
  } catch (error) {
    tell(page.roomError, words(error, seat));
    openSideIfNarrow();
  }
}

/** An error in the drawer has to be seen. */
function openSideIfNarrow() {
  if (getComputedStyle(page.openSide).display !== 'none') openSide(true);
}

async function leave() {
  page.leave.disabled = true;
  // Whatever the answer, we go: closing the connection is a way to leave, too.
  await client.request('room.room.leave', {}, { timeout: 1_500 }).catch(() => {});
  client.close();
  page.leave.disabled = false;
  standUp();
  showBanner();
  showJoinScreen();
  connect();
}

/** @param {SubmitEvent} event */
async function submitJoin(event) {
  event.preventDefault();
  const name = page.name.value.trim();
  const room = page.room.value.trim();
  tell(page.joinError);
  for (const field of [page.name, page.room]) field.removeAttribute('aria-invalid');
  page.join.disabled = true;
  page.join.textContent = 'Joining…';
  try {
    if (client.state === 'closed') connect();
    client.retryNow();
    await opened;
    await takeSeat(name, room);
    focusTalk();
  } catch (error) {
    const code = error instanceof PitayaError ? error.code : '';
    const field = code === 'CHAT-002' ? page.room : page.name;
    if (code.startsWith('CHAT-')) {
      field.setAttribute('aria-invalid', 'true');
      field.focus();
      field.select();
    }
    tell(page.joinError, words(error, { name }));
  } finally {
    page.join.disabled = false;
    page.join.textContent = 'Join the room';
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Talking

let lastTyping = -Infinity;

function typed() {
  showComposer();
  const now = performance.now();
  if (!page.text.value.trim() || !seat.joined || client.state !== 'open' || now - lastTyping < TYPING_EVERY) return;
  lastTyping = now;
  client.notify('room.room.typing', {});
}

/** @param {Event} event */
async function say(event) {
  event.preventDefault();
  const text = page.text.value.trim();
  if (page.send.disabled) return;
  tell(page.sayError);
  lastTyping = -Infinity;
  try {
    if ([...text].length > LONGEST_TEXT) throw new PitayaError('CHAT-004', 'too long');
    const answer = client.request('room.room.say', { text });
    page.text.value = '';
    showComposer();
    await answer;
  } catch (error) {
    // Give the words back, in front of what has been written since.
    if (!page.text.value.startsWith(text)) {
      page.text.value = page.text.value ? `${text}\n${page.text.value}` : text;
      showComposer();
    }
    tell(page.sayError, words(error));
  }
}

/** @param {KeyboardEvent} event Enter sends, Shift and Enter starts a new line. */
function keyInText(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.composer.requestSubmit();
}

async function invite() {
  const link = new URL(`#${encodeURIComponent(seat.room)}`, location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    showBanner('The link is in your clipboard.', { good: true });
  } catch {
    // Browsers give the clipboard to secure pages only.
    prompt('The link to this room:', link);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What the server tells us

/**
 * @param {string} route
 * @param {(push: any) => void} handle
 */
function listen(route, handle) {
  client.on(route, (push) => {
    const inRoom = (/** @type {boolean} */ moved) => {
      // When we have just moved, a push that does not name its room may be about the one that we left.
      const here = push.room === undefined ? !moved : push.room === seat.room;
      if (seat.joined && here) handle(push);
    };
    if (held) held.push(inRoom);
    else inRoom(false);
  });
}

listen('onMessage', (message) => {
  typists.remove(message.name);
  talk.message(message, seat.name);
  if (document.hidden && message.name !== seat.name) {
    missed += 1;
    showTitle();
  }
});

listen('onJoin', ({ name, at }) => {
  if (members.has(name)) return; // Back after a reload: nobody noticed.
  members.add(name);
  showPeople();
  showRooms();
  talk.notice('join', name, at);
});

listen('onLeave', ({ name, at }) => {
  typists.remove(name);
  if (name === seat.name || !members.delete(name)) return;
  showPeople();
  showRooms();
  talk.notice('leave', name, at);
});

listen('onTyping', ({ name }) => {
  if (name !== seat.name) typists.add(name);
});

/** @param {{rooms: Room[]}} news */
function roomsChanged(news) {
  rooms = news.rooms;
  showRooms();
  showSuggestions();
}

client.on('onRooms', roomsChanged);

// ---------------------------------------------------------------------------------------------------------------------
// The connection

/** Fulfilled when the connection is there. @type {Promise<void>} */
let opened;

function connect() {
  opened = client.connect(ADDRESS, {
    user: { client: 'web' },
    requestTimeout: 5_000,
    reconnect: { first: true, minDelay: 400, maxDelay: 8_000 },
  });
  opened.then(
    () => arrived(PATIENCE_AFTER_RELOAD),
    (error) => {
      if (client.state === 'closed') showBanner(words(error));
    },
  );
}

/** There is a connection: take our seat, or look which rooms there are. @param {number} patience */
async function arrived(patience) {
  if (!seat.name) {
    showBanner();
    await client.request('room.room.rooms', {}).then(roomsChanged, () => {});
    return;
  }
  const back = page.banner.hidden ? '' : 'Connected again.';
  if (back) showBanner('The connection is back. Taking your seat again…');
  if (await takeSeatAgain(patience)) showBanner(back, { good: true });
}

client.onReconnect(() => arrived(PATIENCE_AFTER_LOSS));

client.onClose(() => {
  seat.joined = false;
  typists.clear();
  showPeople();
  showComposer();
});

client.onReconnecting(() => {
  const text = navigator.onLine
    ? 'No connection. Trying again…'
    : 'You are offline. The chat goes on when the network is back.';
  showBanner(text, { retry: true });
});

client.onReconnectFailed((error) => {
  standUp();
  showJoinScreen(words(error));
});

client.onKick(() => {
  standUp();
  showBanner();
  showJoinScreen('The chat has ended your visit. You can join again.');
});

// ---------------------------------------------------------------------------------------------------------------------
// Start

page.retry.addEventListener('click', () => client.retryNow());
page.joinForm.addEventListener('submit', submitJoin);
page.room.addEventListener('input', showSuggestions);
page.openSide.addEventListener('click', () => openSide(true));
page.closeSide.addEventListener('click', () => openSide(false));
page.scrim.addEventListener('click', () => openSide(false));
page.leave.addEventListener('click', leave);
page.newRoomForm.addEventListener('submit', async (event) => {
  event.preventDefault();
  const room = page.newRoom.value.trim();
  if (!room) return page.newRoom.focus();
  await moveTo(room);
  if (seat.room === room) page.newRoom.value = '';
});
page.composer.addEventListener('submit', say);
page.text.addEventListener('input', typed);
page.text.addEventListener('keydown', keyInText);
// The button does not take the focus from the field: on a phone that would put the keyboard away.
page.send.addEventListener('mousedown', (event) => event.preventDefault());
page.invite.addEventListener('click', invite);
addEventListener('online', () => client.retryNow());
addEventListener('keydown', (event) => {
  if (event.key === 'Escape') openSide(false);
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  missed = 0;
  showTitle();
  client.retryNow();
});

/** The room in the address, as in the links that people send each other. @returns {string} */
function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

// Somebody follows a link to another room in the same tab.
addEventListener('hashchange', () => {
  const room = roomInAddress();
  if (seat.joined && room) moveTo(room);
  else if (room) page.room.value = room;
  showSuggestions();
});

const remembered = memory.read(tab, 'seat');
page.name.value = memory.read(forGood, 'name') ?? '';
page.room.value = roomInAddress() || FIRST_ROOM;
if (remembered?.name && remembered?.room) {
  Object.assign(seat, { name: remembered.name, room: remembered.room });
  page.name.value = seat.name;
  page.room.value = seat.room;
  talk.clear();
  showChatScreen();
} else {
  showJoinScreen();
}
connect();
