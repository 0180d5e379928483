// Types of the package `hubbub`. Times are seconds.

/** A place in a room's log. `log` is opaque: compare it for equality. */
export interface Position {
  log: string;
  seq: number;
}

/** Where a published message is. `duplicate`: it was there already, from a try before. */
export interface Published extends Position {
  id: string;
  duplicate: boolean;
}

export interface Message<Data = unknown> {
  room: string;
  /** Counts from 1 within the room's log; missing in ephemeral messages. */
  seq?: number;
  /** Names the message wherever it turns up; missing in ephemeral messages. */
  id?: string;
  /** The user who published it; null if a backend did in nobody's name. */
  from: string | null;
  data: Data;
  /** Unix time. */
  ts: number;
  ephemeral?: true;
  /** In conflating rooms: how many messages this one stands for besides itself. */
  skipped?: number;
}

export interface Member {
  user: string;
  /** The claim `info` of the user's token. */
  info: unknown;
  sessions: number;
}

export interface Page<Data = unknown> {
  log: string;
  /** Ascending. */
  messages: Message<Data>[];
  /** There are further ones in the direction asked. */
  more: boolean;
}

/** What became of the messages missed while away, where it was not all well. */
export type Gap =
  /** Messages before `first` are lost to you: mark a gap there. */
  | { outcome: "gap"; first: number }
  /** Drop every message above `valid_to`. */
  | { outcome: "rewound"; valid_to: number }
  /** Another log: seqs start afresh, what you show is of the old one. */
  | { outcome: "reset" };

export type State = "connecting" | "connected" | "offline" | "closed";

export interface StateEvent {
  state: State;
  /** Of the close that led to `offline` or `closed`. */
  code?: number;
  reason?: string;
  /** Until the next try, with `offline`. */
  delay?: number;
}

/** `code` is a word of the protocol (`not_granted`, `message_too_large`, `key_conflict`, `unknown`
 *  …) or one of the client's own: `offline`, `closed`, `left`. */
export declare class HubbubError extends Error {
  constructor(code: string, message?: string, retry?: boolean);
  readonly code: string;
  /** The same may succeed later. */
  readonly retry: boolean;
}

export interface Options {
  /** Called before connecting and when 80 % of a token's life are over; null gives up. */
  getToken?: () => string | null | Promise<string | null>;
  /** Open mode: your name; without one the server makes up a guest, who survives a reload. With
   *  tokens: whose messages those in `storage` are, when that is to be known before connecting. */
  user?: string;
  /** Where unacknowledged messages survive a reload: `localStorage` or `sessionStorage`. */
  storage?: Pick<Storage, "length" | "key" | "getItem" | "setItem" | "removeItem">;
  /** Seconds, least and most, between tries; [0.5, 20]. */
  backoff?: [number, number];
  /** Seconds the server may be silent beyond its ping interval; 10. */
  grace?: number;
  /** Where the platform has none of its own. */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
}

export interface JoinOptions<Data = unknown> {
  /** How many of the newest messages to begin with. */
  history?: number;
  /** Go on from here, as stored by an earlier page; `history` is for when that is of no use. */
  position?: Position | null;
  onMessage?: (message: Message<Data>) => void;
}

export interface PublishOptions {
  /** Now or never: not numbered, not kept, dropped while there is no connection. */
  ephemeral?: boolean;
  /** false: it does not come back to you as a message. */
  echo?: boolean;
}

export interface PendingMessage {
  key: string;
  room: string;
  data: unknown;
}

export interface HubbubEvents {
  state: StateEvent;
  /** A message of this client, or of the page before a reload, has its place. */
  published: PendingMessage & { position: Published };
  /** It will not have one; with code `unknown` it may have. */
  failed: PendingMessage & { error: Error };
  /** The server put you into a room you did not ask for. Without a listener it is passed over. */
  entered: Room;
  /** What no promise tells of. Without a listener it is written to the console. */
  error: Error;
}

export interface RoomEvents<Data = unknown> {
  message: Message<Data>;
  join: Member;
  leave: Member;
  /** `members` or `count` changed. */
  members: undefined;
  /** Back, and nothing is lost. `count` messages came at once; `more`: further ones follow. */
  recovered: { count: number; more: boolean };
  gap: Gap;
  /** Refused, or taken out by the server. The client does not join again by itself. */
  removed: { code: string; reason: string };
}

export declare class Hubbub {
  /** Connects at once. `url` is that of the server or of its door `/v1/ws`, ws or http; relative
   *  to the page. */
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  /** Your name, once known. */
  readonly user: string | null;
  readonly rooms: ReadonlyMap<string, Room>;
  /** As the server told them: `frame_bytes`, `rooms` … */
  readonly limits: Readonly<Record<string, number>>;
  /** What was published and not answered yet, oldest first. */
  readonly pending: PendingMessage[];
  on<Type extends keyof HubbubEvents>(
    type: Type,
    listener: (event: HubbubEvents[Type]) => void,
  ): () => void;
  /** Throws for a room you are in. */
  join<Data = unknown>(room: string, options?: JoinOptions<Data>): Room<Data>;
  /** Resolves once the message is in the log, over as many connections as that takes. */
  publish(
    room: string,
    data: unknown,
    options?: PublishOptions & { ephemeral?: false },
  ): Promise<Published>;
  /** Ephemeral: resolves to null, whether it was delivered or dropped. */
  publish(room: string, data: unknown, options: PublishOptions): Promise<Published | null>;
  /** Try now instead of later, or begin again after `closed`. */
  connect(): void;
  close(): void;
}

export declare class Room<Data = unknown> {
  private constructor();
  readonly name: string;
  /** Of the last message shown. */
  readonly position: Position | null;
  /** In the room on the present connection. */
  readonly live: boolean;
  /** Resolves at the first entry; rejects when it is refused, left or the client closed before. */
  readonly joined: Promise<Room<Data>>;
  /** By name; null where nobody is listed. */
  readonly members: ReadonlyMap<string, Member> | null;
  readonly count: number | null;
  on<Type extends keyof RoomEvents>(
    type: Type,
    listener: (event: RoomEvents<Data>[Type]) => void,
  ): () => void;
  publish(data: Data, options?: PublishOptions & { ephemeral?: false }): Promise<Published>;
  publish(data: unknown, options: PublishOptions): Promise<Published | null>;
  /** A page of at most 100 messages: those before a seq, after one, or the newest. */
  history(page?: {
    before?: number;
    after?: number;
    limit?: number;
    /** The log that the seq is of; the room's present one unless given. */
    log?: string;
  }): Promise<Page<Data>>;
  leave(): Promise<void>;
}

/** The chat client of the FastAPI tutorials, for the doors at `/ws…`. */
export declare class ChatClient {
  /** Connects at once. `token` is sent as `?token=`. */
  constructor(url: string | URL, token?: string | null, options?: Pick<Options, "WebSocket">);
  /** Assign or override it. */
  onMessage(data: any): void;
  /** Assign or override it. */
  onState(event: StateEvent): void;
  /** Sends `{"text": …}`, or an object as it is. Throws while there is no connection. */
  send(text: string | object): void;
  disconnect(): void;
}
