// Rooms with Socket.IO. The query of the handshake names the room.
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });

io.on("connection", (socket) => {
  const { room } = socket.handshake.query;
  socket.join(room);
  socket.on("message", ({ text }) => io.to(room).emit("message", { from: "u", text }));
});

http.listen(Number(process.argv[2]), "127.0.0.1");
