// Rooms with ws: a loop of sends. The path names the room.
const { WebSocketServer } = require("ws");

const rooms = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });

server.on("connection", (socket, request) => {
  const room = request.url;
  if (!rooms.has(room)) rooms.set(room, new Set());
  const members = rooms.get(room);
  members.add(socket);
  socket.on("close", () => members.delete(socket));
  socket.on("message", (data) => {
    const { text } = JSON.parse(data);
    const frame = JSON.stringify({ type: "message", from: "u", text });
    for (const member of members) member.send(frame);
  });
});
