// The panel's socket, for whoever must know when it is cut. It is made after this page's parts, so wait for it.

export function onSocket(found) {
  let gone = false;
  const look = () => {
    if (gone) return;
    if (window.socket) found(window.socket); else setTimeout(look, 30);
  };
  look();
  return () => { gone = true; };
}
